"""Mirror images that fill a target camera's view beyond the source image.

The four sides of a pinhole's image are planes through its optical centre. Beyond the left and the right side the image
continues mirrored, again and again; above and below, a part of it is mirrored once, so that no street lies overhead.
All beyond stays IGNORE.

A mirror image is the camera's view of reflected rays, and a reflection is a matrix: each has a smooth pixel map of its
own, built for the box of target pixels that show it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np

from lib.camera.grid import CELL
from lib.camera.models import Camera, Pinhole
from lib.camera.remap import Remap, build_remap, rays
from lib.dataset.classes import IGNORE

ABOVE, BELOW = 0.86, 0.6
"""Mirrored parts above and below, as shares of the angle between the axis and that side."""
_CACHED = 2  # mirror remaps
_SLACK = 0.05  # source pixels by which mirror images overlap, since errors of the maps would leave gaps
_SOFT = 5  # pixels of the overlay's soft edge, under which the street shows


@dataclass(frozen=True)
class Sides:
    """Angles (rad) to the optical axis of the sides of a camera's image; right and down are positive."""

    left: float
    right: float
    top: float
    bottom: float

    @classmethod
    def of(cls, camera: Pinhole) -> Sides:
        """Return the sides of a camera's image."""
        x, y = (np.array([-0.5, n - 0.5]) for n in (camera.width, camera.height))
        across, down = np.arctan((x - camera.cx) / camera.fx), np.arctan((y - camera.cy) / camera.fy)
        return cls(*map(float, (*across, *down)))

    def copies(self, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which copy of the image shows rays ``(..., 3)``, ``float64 (...)`` each; NaN where none does.

        The first is the copy's number to the right, 0 for the image itself; the second is -1 above, 1 below, else 0.
        """
        x, y, z = np.moveaxis(rays, -1, 0)
        yaw, span = np.arctan2(x, z), self.right - self.left
        across = np.floor((yaw - self.left) / span)
        folded = np.where(across % 2, self.left + self.right + across * span - yaw, yaw - across * span)
        pitch = np.arctan2(y, np.hypot(x, z) * np.cos(folded))
        none = ~((pitch >= self.top * (1 + ABOVE)) & (pitch <= self.bottom * (1 + BELOW)))
        down = np.where(pitch < self.top, -1.0, np.where(pitch > self.bottom, 1.0, 0.0))
        return np.where(none, np.nan, across), np.where(none, np.nan, down)

    def reflection(self, across: int, down: int) -> np.ndarray:
        """Return the orthogonal matrix from a copy's rays to the rays that the camera saw, ``float64 (3, 3)``."""
        span = self.right - self.left
        if across % 2:
            c, s = _cos_sin(self.left + self.right + across * span)
            sideways = np.array([[-c, 0, s], [0, 1, 0], [s, 0, c]])
        else:
            c, s = _cos_sin(across * span)
            sideways = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
        if not down:
            return sideways
        c, s = _cos_sin(2 * self.edge(down))
        return np.array([[1, 0, 0], [0, -c, s], [0, s, c]]) @ sideways

    def edge(self, down: int) -> float:
        """Return the angle of the upper (-1) or lower (1) side."""
        return self.top if down < 0 else self.bottom


def _cos_sin(angle: float) -> tuple[float, float]:
    return float(np.cos(angle)), float(np.sin(angle))


def cells(mask: np.ndarray) -> np.ndarray:
    """Return the cells of an image in which something shows beside the overlay, ``bool (n, m)``.

    Args:
        mask: ``bool (H, W)``, True in the overlay.
    """
    height, width = mask.shape
    step = _step((width, height))
    seen = cv2.dilate((~mask).astype(np.uint8), np.ones((_SOFT, _SOFT), np.uint8))
    seen = cv2.copyMakeBorder(seen, 0, -height % step, 0, -width % step, cv2.BORDER_CONSTANT, value=0)
    return seen.reshape(seen.shape[0] // step, step, -1, step).max(axis=(1, 3)) > 0


def _step(size: tuple[int, int]) -> int:
    """Return the pixels per cell."""
    return int(np.clip(max(size) // 120, 4, 32))


@dataclass(frozen=True, eq=False)
class _Copy:
    """The image or a mirror image: rows and columns of its box, its map in the box, and the pixels that show it."""

    box: tuple[slice, slice]
    remap: Remap
    mask: np.ndarray


@dataclass(frozen=True, eq=False)
class MirrorRemap:
    """A source image and its mirror images, with the methods of a :class:`lib.camera.remap.Remap`.

    Attributes:
        size: (width, height) in which the copies are pasted.
        window: rows and columns of it that are the result.
        copies: the image and its mirror images; each pixel shows one at most.
    """

    size: tuple[int, int]
    window: tuple[slice, slice]
    copies: tuple[_Copy, ...]

    def image(self, image: np.ndarray) -> np.ndarray:
        """Remap ``uint8 (h, w, 3)`` to ``(H, W, 3)``; black where no copy is."""
        atlas = self.copies[0].remap.pyramid.atlas(image) if self.copies else None
        return self._paste(np.zeros((*self.size[::-1], 3), np.uint8), lambda remap: remap.image(image, atlas))

    def label(self, label: np.ndarray) -> np.ndarray:
        """Remap class ids ``uint8 (h, w)`` to ``(H, W)``; IGNORE where no copy is."""
        thin = self.copies[0].remap.pyramid.thin_classes(label) if self.copies else None
        return self._paste(np.full(self.size[::-1], IGNORE, np.uint8), lambda remap: remap.label(label, thin))

    @cached_property
    def x(self) -> np.ndarray:
        """Source x of each target pixel, ``float32 (H, W)``; 0 where no copy is."""
        return self._paste(np.zeros(self.size[::-1], np.float32), lambda remap: remap.x)

    @cached_property
    def y(self) -> np.ndarray:
        """Source y of each target pixel, as :attr:`x`."""
        return self._paste(np.zeros(self.size[::-1], np.float32), lambda remap: remap.y)

    def _paste(self, onto: np.ndarray, values: Callable[[Remap], np.ndarray]) -> np.ndarray:
        for copy in self.copies:
            cv2.copyTo(values(copy.remap), copy.mask, onto[copy.box])
        return onto[self.window]


def cached_mirror_remap(target: Camera, source: Pinhole, turn, region, shift, seen: np.ndarray) -> MirrorRemap:
    """Build the maps of a source image and its mirror images, or return them where they are among the last two.

    Args:
        target, source, turn, region, shift: as :func:`lib.camera.remap.build_remap`; only ``region`` may be None.
        seen: from :func:`cells` of the target's overlay; elsewhere nothing is built.
    """
    turned = tuple(np.asarray(turn, dtype=np.float64).ravel())
    region = tuple(region or (0, 0, target.width, target.height))
    return _cached(target, source, turned, region, tuple(shift), seen.tobytes(), seen.shape)


@lru_cache(maxsize=_CACHED)
def _cached(target, source, turn, region, shift, seen, shape) -> MirrorRemap:
    turn, seen = np.reshape(turn, (3, 3)), np.frombuffer(seen, bool).reshape(shape)
    # A crop's maps have the same nodes as the whole image's, so that they agree to the last digit.
    left, top = (n % CELL for n in region[:2])
    region = x0, y0, width, height = region[0] - left, region[1] - top, region[2] + left, region[3] + top
    sides, target = Sides.of(source), _CachedRays(target, region)
    pasted, copies = np.zeros((height, width), bool), []
    shared: list[Remap] = []
    for (across, down), (x, y, w, h) in _boxes(target, sides, turn, region, shift, seen):
        box = slice(y - y0, y - y0 + h), slice(x - x0, x - x0 + w)
        matrix = sides.reflection(across, down)
        remap = build_remap(target, source, matrix @ turn, (x, y, w, h), matrix @ shift, shared=shared, slack=_SLACK)
        mask = remap.covered & ~pasted[box]
        if down:
            mask &= _within(remap, source, sides, down)
        if mask.any():
            pasted[box] |= mask
            first_x, first_y, w, h = cv2.boundingRect(mask.view(np.uint8))
            window = slice(first_y, first_y + h), slice(first_x, first_x + w)
            shared.append(remap.crop(window))
            rows, columns = (
                slice(b.start + part.start, b.start + part.stop) for b, part in zip(box, window, strict=True)
            )
            copies.append(_Copy((rows, columns), shared[-1], mask[window].view(np.uint8)))
    return MirrorRemap((width, height), (slice(top, None), slice(left, None)), tuple(copies))


class _CachedRays:
    """A camera with the rays of all nodes and middles of a region's grid; mirror images share most of them."""

    def __init__(self, camera: Camera, region: tuple[int, int, int, int]):
        self._camera, self.width, self.height = camera, camera.width, camera.height
        self._half = CELL // 2
        self._first = np.array(region[:2]) - CELL  # the grid starts one cell before the region
        count = [-(-n // CELL) * 2 + 5 for n in region[2:]]
        row, column = np.nonzero(np.add.outer(np.arange(count[1]), np.arange(count[0])) % 2 == 0)
        row, column = (index[row % 2 == column % 2] for index in (row, column))
        self._rays = np.full((count[1], count[0], 3), np.nan)
        self._rays[row, column] = camera.unproject(np.stack([column, row], axis=-1) * self._half + self._first)

    def unproject(self, pixels: np.ndarray) -> np.ndarray:
        place, rest = np.divmod(pixels - self._first, self._half)
        column, row = place.astype(int).reshape(-1, 2).T
        inside = (place >= 0).all() and (place < self._rays.shape[1::-1]).all()
        if rest.any() or not inside or (column % 2 != row % 2).any():
            return self._camera.unproject(pixels)
        return self._rays[row, column].reshape(*pixels.shape[:-1], 3)


def _boxes(target, sides: Sides, turn, region, shift, seen) -> list[tuple[tuple[int, int], tuple[int, int, int, int]]]:
    """Return ((across, down), (x, y, width, height)) of the copies seen in a region, the image itself first."""
    step, (x0, y0, width, height) = _step((target.width, target.height)), region
    first = x0 // step, y0 // step
    last = -(-(x0 + width) // step), -(-(y0 + height) // step)
    # One node beyond the cells' corners: a copy may reach into a cell between them.
    x, y = (np.arange(a - 1, b + 2.0) * step for a, b in zip(first, last, strict=True))
    across, down = sides.copies(rays(target, np.stack(np.meshgrid(x, y), axis=-1), turn, shift))
    seen, boxes = seen[first[1] : last[1], first[0] : last[0]], []
    shown = np.isfinite(across)
    pairs = set(zip(across[shown].astype(int).tolist(), down[shown].astype(int).tolist(), strict=True))
    for number, way in sorted(pairs, key=lambda pair: (abs(pair[1]), abs(pair[0]), pair)):
        nodes = ((across == number) & (down == way)).astype(np.uint8)
        near = cv2.dilate(nodes, np.ones((4, 4), np.uint8), anchor=(0, 0))[: seen.shape[0], : seen.shape[1]]
        left, top, w, h = cv2.boundingRect(near & seen)
        if not w:
            continue
        start, end = [], []
        for place, n, cell, low, length in ((left, w, first[0], x0, width), (top, h, first[1], y0, height)):
            begin = max((cell + place) * step, low)
            start.append(begin - begin % CELL)
            end.append(min((cell + place + n) * step, low + length))
        if end[0] > start[0] and end[1] > start[1]:
            boxes.append(((number, way), (*start, end[0] - start[0], end[1] - start[1])))
    return boxes


def _within(remap: Remap, source: Pinhole, sides: Sides, down: int) -> np.ndarray:
    """Return the pixels that a copy above or below shows, ``bool (H, W)``; they fill a trapezium of the source.

    The side planes limit a ray before its reflection at the edge, which changes its depth.
    """
    edge = sides.edge(down)
    c, s = _cos_sin(2 * edge)
    depth = c + s / source.fy * (remap.y - np.float32(source.cy))
    inner = source.cy + source.fy * np.tan(edge * (1 - (ABOVE if down < 0 else BELOW)))
    off = remap.x - np.float32(source.cx)
    inside = (off >= (-0.5 - source.cx) * depth - _SLACK) & (off <= (source.width - 0.5 - source.cx) * depth + _SLACK)
    return inside & (remap.y <= inner if down < 0 else remap.y >= inner)
