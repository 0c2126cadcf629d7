"""The solids a street is built of, and where rays meet them.

World coordinates are metres: x to the right, y up from the road surface, z along the street. Every solid is
an affine picture of a unit one (a block that may narrow towards its top, a sphere, an open vertical tube), so
that a ray is moved into the unit solid's space, met there, and its length along the ray stays valid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np

Material = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""``(points (3, N), normals (3, N)) -> linear albedo (N, 3)``; both in the solid's own frame, in metres."""

Cut = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""``(unit points (3, N), unit-space directions (3, N)) -> bool (N,)``: which hits are kept."""


_BOX = np.array(list(product((-1.0, 1.0), repeat=3)))
_BALL = np.array([p for p in product((-1.0, 0.0, 1.0), repeat=3) if any(p)])
_BALL /= np.linalg.norm(_BALL, axis=1, keepdims=True)


@dataclass(frozen=True, eq=False)
class Solid:
    """One solid: a unit shape, stretched by ``half``, turned by ``turn`` and moved to ``centre``.

    Args:
        shape: "block", "ball" or "tube".
        label: class id of every pixel it fills.
        material: its colour, a function of the place on it.
        centre: ``float (3,)`` metres.
        half: ``float (3,)`` half extents along the solid's own axes, metres.
        turn: ``float (3, 3)``, world directions to the solid's own axes.
        taper: blocks: share of the width (x) and the depth (z) lost between bottom and top.
        cut: an outline other than the shape's own, for image and label alike.
        holes: openings the image shows and the label, like an annotator, does not follow.
    """

    shape: str
    label: int
    material: Material
    centre: np.ndarray
    half: np.ndarray
    turn: np.ndarray
    taper: tuple[float, float] = (0.0, 0.0)
    cut: Cut | None = None
    holes: Cut | None = None

    @cached_property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest corner of the surrounding box along the world's axes, ``float (3,)`` each."""
        reach = np.abs(self.turn.T) @ self.half
        return self.centre - reach, self.centre + reach

    def corners(self) -> np.ndarray:
        """Points whose convex hull is about the solid, ``float (n, 3)``."""
        if self.shape != "block":
            return (_BALL if self.shape == "ball" else _BOX) * self.half @ self.turn + self.centre
        unit = _BOX.copy()
        unit[:, ::2] *= 1 - np.array(self.taper) * (unit[:, 1:2] + 1) / 2
        return unit * self.half @ self.turn + self.centre

    def meet(self, origin: np.ndarray, rays: np.ndarray, through: np.ndarray) -> np.ndarray:
        """Distance along each ray to the first hit, inf where there is none.

        Args:
            origin: ``float (3,)``.
            rays: ``float32 (3, T, N)``.
            through: ``bool (N,)``, which rays of a tile pass the openings.

        Returns:
            ``float32 (T, N)``, in ray lengths.
        """
        matrix = (self.turn / self.half[:, None]).astype(np.float32)
        start = (self.turn @ (origin - self.centre) / self.half).astype(np.float32)
        rays = turned(matrix, rays)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = _block(start, rays, self.taper) if self.shape == "block" else _round(self.shape, start, rays)
        for cut, concerned in ((self.cut, True), (self.holes, through)):
            if cut is not None:
                at = np.nonzero(np.isfinite(t) & concerned)
                ray = rays[:, *at]
                t[at] = np.where(cut(start[:, None] + t[at] * ray, ray), t[at], np.inf)
        return t

    def normals(self, points: np.ndarray) -> np.ndarray:
        """Outward unit normals in the solid's own frame at its surface ``points (3, N)`` (own frame, metres)."""
        half = self.half.astype(np.float32)[:, None]
        unit = points / half
        if self.shape == "block":
            planes = np.array([plane for _, plane in _planes(self.taper)], dtype=np.float32)
            face = (turned(planes[:, :3], unit) + planes[:, 3:]).argmax(axis=0)
            normals = planes[:, :3].T[:, face] / half
        else:
            normals = unit / half
            normals[1] *= self.shape == "ball"
        return normals / np.sqrt((normals * normals).sum(axis=0))


def turned(matrix: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """``matrix (n, 3)`` times ``vectors (3, ...)``; BLAS is slower on so thin a product, and starts threads."""
    out = np.empty((len(matrix), *vectors.shape[1:]), dtype=vectors.dtype)
    for row, (a, b, c) in zip(out, matrix, strict=True):
        np.multiply(vectors[0], a, out=row)
        row += b * vectors[1]
        row += c * vectors[2]
    return out


def _planes(taper: tuple[float, float]):
    """The unit block's faces: (axis, plane), a plane being (a, b, c, d) with ax + by + cz + d <= 0 inside."""
    for sign in (-1.0, 1.0):
        yield 1, (0.0, sign, 0.0, -1.0)
        for axis, narrowing in ((0, taper[0] / 2), (2, taper[1] / 2)):
            plane = [0.0, narrowing, 0.0, narrowing - 1]
            plane[axis] = sign
            yield axis, tuple(plane)


def _block(start: np.ndarray, rays: np.ndarray, taper: tuple[float, float]) -> np.ndarray:
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


def _round(shape: str, start: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Unit ball, or the wall of the unit tube.

    The discriminant is taken as a - |start x ray|^2: the textbook b^2 - ac loses a thin pole in float32.
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
    """A block of ``size`` (width, height, depth) standing on ``at``, the centre of its bottom face."""
    half = np.array(size, dtype=float) / 2
    return Solid("block", label, material, np.array(at) + (0, half[1], 0), half, np.eye(3), **more)


def ball(label, material, centre, radii, **more) -> Solid:
    """An ellipsoid with its axes along the world's."""
    return Solid("ball", label, material, np.array(centre, float), np.array(radii, float), np.eye(3), **more)


def limb(label, material, a, b, radius: float, shape: str = "tube") -> Solid:
    """A round bar of ``radius`` from ``a`` to ``b``; as a "ball" it thins out to both ends."""
    a, b = np.array(a, float), np.array(b, float)
    along = (b - a) / np.linalg.norm(b - a)
    x, y, z = along
    aside = np.array((0.0, z, -y) if abs(x) < 0.7 else (y, -x, 0.0))
    u, v, w = aside / np.linalg.norm(aside)
    turn = np.array([(u, v, w), (x, y, z), (v * z - w * y, w * x - u * z, u * y - v * x)])
    half = np.array([radius, np.linalg.norm(b - a) / 2, radius])
    return Solid(shape, label, material, (a + b) / 2, half, turn)


def placed(solids: list[Solid], x: float, z: float, yaw: float = 0.0, y: float = 0.0) -> list[Solid]:
    """Solids built around the origin, turned by ``yaw`` (rad, +z towards +x) and set down at (x, y, z)."""
    c, s = np.cos(yaw), np.sin(yaw)
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    return [replace(o, centre=turn @ o.centre + (x, y, z), turn=o.turn @ turn.T) for o in solids]
