"""Mirror images that fill a target camera's view beyond the source image.

Beyond the left and the right side the image continues mirrored at the side's plane through the optical centre, again
and again; above and below, a part of it is mirrored once, so that no street lies overhead. All beyond stays IGNORE.
A reflection of rays is a matrix: each mirror image has a smooth pixel map, built for the box of pixels that show it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import cv2
import numpy as np

from lib.camera.grid import CELL
from lib.camera.models import Camera, Pinhole
from lib.camera.remap import Remap, build_remap, common_pyramid, rays
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
        odd = across % 2
        angle = odd * (self.left + self.right) + across * (self.right - self.left)
        c, s, sign = np.cos(angle), np.sin(angle), 1 - 2 * odd
        sideways = np.array([[sign * c, 0, -sign * s], [0, 1, 0], [s, 0, c]])
        if not down:
            return sideways
        edge = self.top if down < 0 else self.bottom
        c, s = np.cos(2 * edge), np.sin(2 * edge)
        return np.array([[1, 0, 0], [0, -c, s], [0, s, c]]) @ sideways


def cells(mask: np.ndarray) -> np.ndarray:
    """Return the cells of an image in which something shows beside the overlay's ``bool (H, W)``, ``bool (n, m)``."""
    height, width = mask.shape
    step = _step((width, height))
    seen = cv2.dilate((~mask).astype(np.uint8), np.ones((_SOFT, _SOFT), np.uint8))
    seen = cv2.copyMakeBorder(seen, 0, -height % step, 0, -width % step, cv2.BORDER_CONSTANT, value=0)
    return seen.reshape(seen.shape[0] // step, step, -1, step).max(axis=(1, 3)) > 0


def _step(size: tuple[int, int]) -> int:
    """Return the pixels per cell of an image."""
    return int(np.clip(max(size) // 120, 4, 32))


@dataclass(frozen=True, eq=False)
class MirrorRemap:
    """A source image and its mirror images, with the methods of a :class:`lib.camera.remap.Remap`.

    They are pasted into an image of ``size``, of which ``window`` is the result. Each of ``copies`` has the rows and
    columns of its box, its map there, and the pixels ``uint8 (h, w)`` that show it; each pixel shows one at most.
    """

    size: tuple[int, int]
    window: tuple[slice, slice]
    copies: tuple[tuple[tuple[slice, slice], Remap, np.ndarray], ...]

    def image(self, image: np.ndarray) -> np.ndarray:
        """Remap ``uint8 (h, w, 3)`` to ``(H, W, 3)``; black where no copy is."""
        atlas = self.copies[0][1].pyramid.atlas(image) if self.copies else None
        return self._paste(np.zeros((*self.size[::-1], 3), np.uint8), lambda remap: remap.image(image, atlas))

    def label(self, label: np.ndarray) -> np.ndarray:
        """Remap class ids ``uint8 (h, w)`` to ``(H, W)``; IGNORE where no copy is."""
        thin = self.copies[0][1].pyramid.thin_classes(label) if self.copies else None
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
        for box, remap, mask in self.copies:
            cv2.copyTo(values(remap), mask, onto[box])
        return onto[self.window]


def cached_mirror_remap(target: Camera, source: Pinhole, turn, region, shift, seen: np.ndarray) -> MirrorRemap:
    """Build the maps of a source image and its mirror images, or return them where they are among the last two.

    Arguments as :func:`lib.camera.remap.build_remap`. Nothing is built outside ``seen``, the overlay's :func:`cells`.
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
    sides = Sides.of(source)
    pasted, copies = np.zeros((height, width), bool), []
    for (across, down), (x, y, w, h) in _boxes(target, sides, turn, region, shift, seen):
        box = slice(y - y0, y - y0 + h), slice(x - x0, x - x0 + w)
        matrix = sides.reflection(across, down)
        remap = build_remap(target, source, matrix @ turn, (x, y, w, h), matrix @ shift, slack=_SLACK)
        mask = remap.covered & ~pasted[box]
        if down:
            mask &= _within(remap, source, sides, down)
        if mask.any():
            pasted[box] |= mask
            first_x, first_y, w, h = cv2.boundingRect(mask.view(np.uint8))
            window = slice(first_y, first_y + h), slice(first_x, first_x + w)
            x, y = x - x0 + first_x, y - y0 + first_y
            cut = replace(remap, window=window)
            copies.append(((slice(y, y + h), slice(x, x + w)), cut, mask[window].view(np.uint8)))
    if copies:  # maps that referred to each other would stay in memory until a collection of cycles
        pyramid = common_pyramid([cut for _, cut, _ in copies])
        copies = [(box, replace(cut, given_pyramid=pyramid), shown) for box, cut, shown in copies]
    return MirrorRemap((width, height), (slice(top, None), slice(left, None)), tuple(copies))


def _boxes(target, sides: Sides, turn, region, shift, seen) -> Iterator:
    """Yield ((across, down), (x, y, width, height)) of the copies seen in a region, the image itself first."""
    step, (x0, y0, width, height) = _step((target.width, target.height)), region
    first = x0 // step, y0 // step
    last = -(-(x0 + width) // step), -(-(y0 + height) // step)
    # One node beyond the cells' corners: a copy may reach into a cell between them.
    x, y = (np.arange(a - 1, b + 2.0) * step for a, b in zip(first, last, strict=True))
    across, down = sides.copies(rays(target, np.stack(np.meshgrid(x, y), axis=-1), turn, shift))
    seen = seen[first[1] : last[1], first[0] : last[0]]
    shown = np.isfinite(across)
    pairs = set(zip(across[shown].astype(int).tolist(), down[shown].astype(int).tolist(), strict=True))
    for number, way in sorted(pairs, key=lambda pair: (abs(pair[1]), abs(pair[0]), pair)):
        nodes = ((across == number) & (down == way)).astype(np.uint8)
        near = cv2.dilate(nodes, np.ones((4, 4), np.uint8), anchor=(0, 0))[: seen.shape[0], : seen.shape[1]]
        left, top, w, h = cv2.boundingRect(near & seen)
        start, end = [], []
        for place, n, cell, low, length in ((left, w, first[0], x0, width), (top, h, first[1], y0, height)):
            begin = max((cell + place) * step, low)
            start.append(begin - begin % CELL)
            end.append(min((cell + place + n) * step, low + length))
        if w and end[0] > start[0] and end[1] > start[1]:
            yield (number, way), (*start, end[0] - start[0], end[1] - start[1])


def _within(remap: Remap, source: Pinhole, sides: Sides, down: int) -> np.ndarray:
    """Return the pixels that a copy above or below shows, ``bool (H, W)``; they fill a trapezium of the source."""
    edge = sides.top if down < 0 else sides.bottom
    # The side planes limit a ray before its reflection at the edge, which changes its depth.
    depth = float(np.cos(2 * edge)) + float(np.sin(2 * edge)) / source.fy * (remap.y - np.float32(source.cy))
    inner = source.cy + source.fy * np.tan(edge * (1 - (ABOVE if down < 0 else BELOW)))
    off = remap.x - np.float32(source.cx)
    inside = (off >= (-0.5 - source.cx) * depth - _SLACK) & (off <= (source.width - 0.5 - source.cx) * depth + _SLACK)
    return inside & (remap.y <= inner if down < 0 else remap.y >= inner)
