"""A source image and its mirror images at its sides, seen by a target camera that looks farther than the source did.

The four sides of a pinhole's image are planes through its optical centre. Beyond the left and the right one the image
goes on mirrored, again and again; above the top one its upper part once, below the bottom one its lower part once,
so that no street lies overhead. What is farther out stays IGNORE.

Such a copy is what the same camera sees after the rays were reflected, which is a matrix: each copy has a smooth map
of pixels of its own, made for the box of target pixels that it owns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np

from lib.camera import grid, remap
from lib.camera.models import Camera, Pinhole
from lib.dataset.classes import IGNORE

ABOVE, BELOW = 0.86, 0.6
"""How much is mirrored upwards and downwards, as a share of the angle between the axis and that side."""
_KEPT = 2  # ready sets of copies, as in warp
_SLACK = 0.05  # source pixels that copies overlap by, so that a table's error leaves no gap between them
_SOFT = 5  # pixels: surroundings are pasted with a soft edge, under which the street shows


@dataclass(frozen=True)
class Sides:
    """Angles (rad) to the optical axis at which the image of a camera ends; right and down are positive."""

    left: float
    right: float
    top: float
    bottom: float

    @classmethod
    def of(cls, camera: Pinhole) -> Sides:
        x, y = (np.array([-0.5, n - 0.5]) for n in (camera.width, camera.height))
        across, down = np.arctan((x - camera.cx) / camera.fx), np.arctan((y - camera.cy) / camera.fy)
        return cls(*map(float, (*across, *down)))

    def owners(self, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which copy shows rays ``(..., 3)``: its number to the right ``int (...)``, and -1 above, 1 below, else 0.

        Both are NaN, so ``float64``, where no copy does.
        """
        x, y, z = np.moveaxis(rays, -1, 0)
        yaw, span = np.arctan2(x, z), self.right - self.left
        across = np.floor((yaw - self.left) / span)
        folded = np.where(across % 2, self.left + self.right + across * span - yaw, yaw - across * span)
        pitch = np.arctan2(y, np.hypot(x, z) * np.cos(folded))
        none = ~((pitch >= self.top * (1 + ABOVE)) & (pitch <= self.bottom * (1 + BELOW)))
        down = np.where(pitch < self.top, -1.0, np.where(pitch > self.bottom, 1.0, 0.0))
        return np.where(none, np.nan, across), np.where(none, np.nan, down)

    def matrix(self, across: int, down: int) -> np.ndarray:
        """``float64 (3, 3)``, orthogonal: from rays to where the camera itself sees what the copy shows there."""
        span = self.right - self.left
        if across % 2:
            c, s = _turn(self.left + self.right + across * span)
            sideways = np.array([[-c, 0, s], [0, 1, 0], [s, 0, c]])
        else:
            c, s = _turn(across * span)
            sideways = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
        if not down:
            return sideways
        c, s = _turn(2 * self.edge(down))
        return np.array([[1, 0, 0], [0, -c, s], [0, s, c]]) @ sideways

    def edge(self, down: int) -> float:
        """The angle of the upper (-1) or lower (1) side."""
        return self.top if down < 0 else self.bottom


def _turn(angle: float) -> tuple[float, float]:
    return float(np.cos(angle)), float(np.sin(angle))


def cells(mask: np.ndarray) -> np.ndarray:
    """``bool (n, m)``: in which cells of an image something shows beside surroundings ``bool (H, W)``."""
    height, width = mask.shape
    step = _step((width, height))
    seen = cv2.dilate((~mask).astype(np.uint8), np.ones((_SOFT, _SOFT), np.uint8))
    seen = cv2.copyMakeBorder(seen, 0, -height % step, 0, -width % step, cv2.BORDER_CONSTANT, value=0)
    return seen.reshape(seen.shape[0] // step, step, -1, step).any(axis=(1, 3))


def _step(size: tuple[int, int]) -> int:
    """Pixels per cell."""
    return int(np.clip(max(size) // 120, 4, 32))


@dataclass(frozen=True, eq=False)
class _Copy:
    """A copy: the rows and columns that it is pasted to, and in these, its map and which pixels are its own."""

    box: tuple[slice, slice]
    warp: remap.Remap
    own: np.ndarray


@dataclass(frozen=True, eq=False)
class MirrorRemap:
    """A source image and its copies, ready for images and labels: what :class:`lib.camera.remap.Remap` is for one.

    Attributes:
        size: (width, height) of what is made.
        view: rows and columns of it that are the result.
        copies: in the order in which they are pasted; each pixel belongs to one at most.
    """

    size: tuple[int, int]
    view: tuple[slice, slice]
    copies: tuple[_Copy, ...]

    def image(self, image: np.ndarray) -> np.ndarray:
        """``uint8 (h, w, 3)`` seen through the maps; black where no copy is."""
        picture = self.copies[0].warp.layout.picture(image) if self.copies else None
        return self._pasted(np.zeros((*self.size[::-1], 3), np.uint8), lambda one: one.image(image, picture))

    def label(self, label: np.ndarray) -> np.ndarray:
        """``uint8 (h, w)`` class ids seen through the maps; IGNORE where no copy is."""
        thin = remap.Thin(label, self.copies[0].warp.layout) if self.copies else None
        return self._pasted(np.full(self.size[::-1], IGNORE, np.uint8), lambda one: one.label(label, thin))

    @cached_property
    def x(self) -> np.ndarray:
        """Source pixel's x of each target pixel, ``float32 (H, W)``; 0 where no copy is."""
        return self._pasted(np.zeros(self.size[::-1], np.float32), lambda one: one.x)

    @cached_property
    def y(self) -> np.ndarray:
        """The same of y."""
        return self._pasted(np.zeros(self.size[::-1], np.float32), lambda one: one.y)

    def _pasted(self, onto: np.ndarray, made) -> np.ndarray:
        for copy in self.copies:
            cv2.copyTo(made(copy.warp), copy.own, onto[copy.box])
        return onto[self.view]


def cached_mirror_remap(
    target: Camera,
    source: Pinhole,
    turn: np.ndarray,
    region: tuple[int, int, int, int] | None,
    shift: tuple[float, float, float],
    seen: np.ndarray,
) -> MirrorRemap:
    """The copies of a source image that a target camera sees; the last few sets are kept for the next call.

    Args:
        target, source, turn, region, shift: see :func:`lib.camera.remap.build_table`.
        seen: from :func:`cells` of the target's surroundings; elsewhere nothing is made.
    """
    turned = tuple(np.asarray(turn, dtype=np.float64).ravel())
    region = tuple(region or (0, 0, target.width, target.height))
    return _between(target, source, turned, region, tuple(shift), seen.tobytes(), seen.shape)


@lru_cache(maxsize=_KEPT)
def _between(target, source, turn, region, shift, seen, shape) -> MirrorRemap:
    turn, seen = np.reshape(turn, (3, 3)), np.frombuffer(seen, bool).reshape(shape)
    # A crop's maps are computed at the same places as the whole image's, so that they agree to the last digit.
    left, top = (n % grid.CELL for n in region[:2])
    region = x0, y0, width, height = region[0] - left, region[1] - top, region[2] + left, region[3] + top
    sides, target = Sides.of(source), _Known(target, region)
    done, copies, together = np.zeros((height, width), bool), [], []
    for (across, down), (x, y, w, h) in _boxes(target, sides, turn, region, shift, seen):
        box = slice(y - y0, y - y0 + h), slice(x - x0, x - x0 + w)
        matrix = sides.matrix(across, down)
        one = remap.build_remap(
            target, source, matrix @ turn, (x, y, w, h), matrix @ shift, together=together, slack=_SLACK
        )
        own = one.covered & ~done[box]
        if down:
            own &= _beyond(one, source, sides, down)
        if own.any():
            done[box] |= own
            first, top_, wide, high = cv2.boundingRect(own.view(np.uint8))
            view = slice(top_, top_ + high), slice(first, first + wide)
            together.append(one.cut(view))
            rows, columns = (slice(whole.start + part.start, whole.start + part.stop) for whole, part in zip(box, view))
            copies.append(_Copy((rows, columns), together[-1], own[view].view(np.uint8)))
    return MirrorRemap((width, height), (slice(top, None), slice(left, None)), tuple(copies))


class _Known:
    """A camera that has looked up the rays of all places where tables are exact: copies share most of them."""

    def __init__(self, camera: Camera, region: tuple[int, int, int, int]):
        self.camera, self.width, self.height = camera, camera.width, camera.height
        self.half = grid.CELL // 2
        self.first = np.array(region[:2]) - grid.CELL  # corners of cells, one beyond the region, and their middles
        count = [-(-n // grid.CELL) * 2 + 5 for n in region[2:]]
        row, column = np.nonzero(np.add.outer(np.arange(count[1]), np.arange(count[0])) % 2 == 0)
        row, column = (index[row % 2 == column % 2] for index in (row, column))
        self.rays = np.full((count[1], count[0], 3), np.nan)
        self.rays[row, column] = camera.unproject(np.stack([column, row], axis=-1) * self.half + self.first)

    def unproject(self, pixels: np.ndarray) -> np.ndarray:
        place, rest = np.divmod(pixels - self.first, self.half)
        column, row = place.astype(int).reshape(-1, 2).T
        inside = (place >= 0).all() and (place < self.rays.shape[1::-1]).all()
        if rest.any() or not inside or (column % 2 != row % 2).any():
            return self.camera.unproject(pixels)
        return self.rays[row, column].reshape(*pixels.shape[:-1], 3)


def _boxes(target, sides: Sides, turn, region, shift, seen) -> list[tuple[tuple[int, int], tuple[int, int, int, int]]]:
    """((number across, down), (x, y, width, height)) of the copies seen in a region, the image itself first."""
    step, (x0, y0, width, height) = _step((target.width, target.height)), region
    first = x0 // step, y0 // step
    last = -(-(x0 + width) // step), -(-(y0 + height) // step)
    # One node farther than the cells' corners: a copy may reach into a cell between them.
    x, y = (np.arange(a - 1, b + 2.0) * step for a, b in zip(first, last, strict=True))
    across, down = sides.owners(remap.rays(target, np.stack(np.meshgrid(x, y), axis=-1), turn, shift))
    seen, found = seen[first[1] : last[1], first[0] : last[0]], []
    there = np.unique(3 * across[np.isfinite(across)] + down[np.isfinite(across)] + 1).astype(int)
    pairs = [(one // 3, one % 3 - 1) for one in there.tolist()]
    for number, way in sorted(pairs, key=lambda pair: (abs(pair[1]), abs(pair[0]), pair)):
        nodes = ((across == number) & (down == way)).astype(np.uint8)
        near = cv2.dilate(nodes, np.ones((4, 4), np.uint8), anchor=(0, 0))[: seen.shape[0], : seen.shape[1]]
        left, top, w, h = cv2.boundingRect(near & seen)
        if not w:
            continue
        box, end = [], []
        for at, n, first_cell, start, length in ((left, w, first[0], x0, width), (top, h, first[1], y0, height)):
            begin = max((first_cell + at) * step, start)
            box.append(begin - begin % grid.CELL)
            end.append(min((first_cell + at + n) * step, start + length))
        if end[0] > box[0] and end[1] > box[1]:
            found.append(((number, way), (*box, end[0] - box[0], end[1] - box[1])))
    return found


def _beyond(one: remap.Remap, source: Pinhole, sides: Sides, down: int) -> np.ndarray:
    """``bool (H, W)``: pixels that a copy above or below shows; in the source they fill a trapezium at that edge.

    A ray's place between the side planes is told before the reflection at the edge, which changes its depth.
    """
    edge = sides.edge(down)
    c, s = _turn(2 * edge)
    depth = c + s / source.fy * (one.y - np.float32(source.cy))
    inner = source.cy + source.fy * np.tan(edge * (1 - (ABOVE if down < 0 else BELOW)))
    off = one.x - np.float32(source.cx)
    own = (off >= (-0.5 - source.cx) * depth - _SLACK) & (off <= (source.width - 0.5 - source.cx) * depth + _SLACK)
    return own & (one.y <= inner if down < 0 else one.y >= inner)
