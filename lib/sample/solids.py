"""Solids of a street and their intersections with rays.

World coordinates are metres: x to the right, y up from the road surface, z along the street. Every solid is an affine
image of a unit solid: a block that may narrow towards its top, a ball, or an open vertical tube. Rays are intersected
in the space of the unit solid; distances in ray lengths stay valid.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np

Material = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""``(points (3, N), normals (3, N)) -> linear albedo (N, 3)``; both in the solid's frame, in metres."""

Cutout = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""``(points (3, N), ray directions (3, N)) -> bool (N,)``, both in unit space: True where the solid is solid."""

_BOX = np.array(list(product((-1.0, 1.0), repeat=3)))
_BALL = np.array([p for p in product((-1.0, 0.0, 1.0), repeat=3) if any(p)])
_BALL /= np.linalg.norm(_BALL, axis=1, keepdims=True)


@dataclass(frozen=True, eq=False)
class Solid:
    """A unit shape, stretched by ``half``, rotated by ``rotation`` and moved to ``centre``.

    Args:
        shape: "block", "ball" or "tube".
        label: class id.
        material: colour as a function of position.
        centre: ``float (3,)`` metres.
        half: half extents along the solid's axes, ``float (3,)`` metres.
        rotation: world directions to the solid's axes, ``float (3, 3)``.
        taper: of a block: shares of width (x) and depth (z) lost between bottom and top.
        outline: a narrower outline, in image and label.
        holes: openings in the image alone: annotators do not follow them in labels.
    """

    shape: str
    label: int
    material: Material
    centre: np.ndarray
    half: np.ndarray
    rotation: np.ndarray
    taper: tuple[float, float] = (0.0, 0.0)
    outline: Cutout | None = None
    holes: Cutout | None = None

    @cached_property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest corner of the bounding box along the world's axes, ``float (3,)`` each."""
        reach = np.abs(self.rotation.T) @ self.half
        return self.centre - reach, self.centre + reach

    def corners(self) -> np.ndarray:
        """Return points whose convex hull is about the solid, ``float (n, 3)``."""
        if self.shape != "block":
            return (_BALL if self.shape == "ball" else _BOX) * self.half @ self.rotation + self.centre
        unit = _BOX.copy()
        unit[:, ::2] *= 1 - np.array(self.taper) * (unit[:, 1:2] + 1) / 2
        return unit * self.half @ self.rotation + self.centre

    def intersect(self, origin: np.ndarray, rays: np.ndarray, through: np.ndarray) -> np.ndarray:
        """Return the distance along each ray to the first hit, ``float32 (T, N)`` in ray lengths; inf for a miss.

        Args:
            origin: ``float (3,)``.
            rays: ``float32 (3, T, N)``, N rays in each of T tiles.
            through: ``bool (N,)``, rays of a tile that pass through holes.
        """
        matrix = (self.rotation / self.half[:, None]).astype(np.float32)
        start = (self.rotation @ (origin - self.centre) / self.half).astype(np.float32)
        rays = multiply(matrix, rays)
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.shape == "block":
                t = _meet_block(start, rays, self.taper)
            else:
                t = _meet_round(self.shape, start, rays)
        for cutout, concerned in ((self.outline, True), (self.holes, through)):
            if cutout is not None:
                tile, index = np.nonzero(np.isfinite(t) & concerned)
                ray, near = rays[:, tile, index], t[tile, index]
                t[tile, index] = np.where(cutout(start[:, None] + near * ray, ray), near, np.inf)
        return t

    def normals(self, points: np.ndarray) -> np.ndarray:
        """Return outward unit normals ``(3, N)`` at surface ``points (3, N)``, both in the solid's frame (metres)."""
        half = self.half.astype(np.float32)[:, None]
        unit = points / half
        if self.shape == "block":
            planes = np.array([plane for _, plane in _planes(self.taper)], dtype=np.float32)
            face = (multiply(planes[:, :3], unit) + planes[:, 3:]).argmax(axis=0)
            normals = planes[:, :3].T[:, face] / half
        else:
            normals = unit / half
            normals[1] *= self.shape == "ball"
        return normals / np.sqrt((normals * normals).sum(axis=0))


def multiply(matrix: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return ``matrix (n, 3)`` times ``vectors (3, ...)``; BLAS is slower at thin products and starts threads."""
    out = np.empty((len(matrix), *vectors.shape[1:]), dtype=vectors.dtype)
    for row, (a, b, c) in zip(out, matrix, strict=True):
        np.multiply(vectors[0], a, out=row)
        row += b * vectors[1]
        row += c * vectors[2]
    return out


def _planes(taper: tuple[float, float]):
    """Yield the unit block's faces as (axis, plane); a plane is (a, b, c, d) with ax + by + cz + d <= 0 inside."""
    for sign in (-1.0, 1.0):
        yield 1, (0.0, sign, 0.0, -1.0)
        for axis, narrowing in ((0, taper[0] / 2), (2, taper[1] / 2)):
            plane = [0.0, narrowing, 0.0, narrowing - 1]
            plane[axis] = sign
            yield axis, tuple(plane)


def _meet_block(start: np.ndarray, rays: np.ndarray, taper: tuple[float, float]) -> np.ndarray:
    enter = np.zeros_like(rays[0])
    leave = np.full_like(enter, np.inf)
    for axis, plane in _planes(taper):
        slope = plane[axis] * rays[axis]
        if axis != 1 and plane[1]:
            slope += np.float32(plane[1]) * rays[1]
        above = np.float32(start @ np.array(plane[:3], dtype=np.float32) + np.float32(plane[3]))
        t = -above / slope
        inward = slope < 0
        np.maximum(enter, t, out=enter, where=inward)
        np.minimum(leave, t, out=leave, where=~inward)
    enter[~((enter < leave) & (enter > 0))] = np.inf
    return enter


def _meet_round(shape: str, start: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Intersect rays with the unit ball, or with the wall of the unit tube.

    The discriminant is a - |start x ray|^2: the textbook form b^2 - ac loses thin poles in float32.
    """
    (x, y, z), (u, v, w) = start, rays
    a, b = u * u + w * w, x * u + z * w
    cross = (z * u - x * w) ** 2
    if shape == "ball":
        a, b = a + v * v, b + y * v
        cross += (y * w - z * v) ** 2 + (x * v - y * u) ** 2
    t = -(b + np.sqrt(a - cross)) / a
    hit = t > 0
    if shape == "tube":
        hit &= np.abs(y + t * v) <= 1
    t[~hit] = np.inf
    return t


def block(label, material, at, size, **more) -> Solid:
    """Return a block of ``size`` (width, height, depth) whose bottom face has its centre at ``at``."""
    half = np.array(size, dtype=float) / 2
    return Solid("block", label, material, np.array(at) + (0, half[1], 0), half, np.eye(3), **more)


def ball(label, material, centre, radii, **more) -> Solid:
    """Return an ellipsoid with axes along the world's."""
    return Solid("ball", label, material, np.array(centre, float), np.array(radii, float), np.eye(3), **more)


def rod(label, material, a, b, radius: float, shape: str = "tube") -> Solid:
    """Return a round bar from ``a`` to ``b``; the shape "ball" gives it pointed ends."""
    a, b = np.array(a, float), np.array(b, float)
    along = (b - a) / np.linalg.norm(b - a)
    x, y, z = along
    aside = np.array((0.0, z, -y) if abs(x) < 0.7 else (y, -x, 0.0))
    u, v, w = aside / np.linalg.norm(aside)
    rotation = np.array([(u, v, w), (x, y, z), (v * z - w * y, w * x - u * z, u * y - v * x)])
    half = np.array([radius, np.linalg.norm(b - a) / 2, radius])
    return Solid(shape, label, material, (a + b) / 2, half, rotation)


def place(solids: list[Solid], x: float, z: float, yaw: float = 0.0, y: float = 0.0) -> list[Solid]:
    """Return ``solids`` rotated by ``yaw`` (rad, +z towards +x) and moved from the origin to (x, y, z)."""
    c, s = np.cos(yaw), np.sin(yaw)
    rotation = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    return [replace(o, centre=rotation @ o.centre + (x, y, z), rotation=o.rotation @ rotation.T) for o in solids]
