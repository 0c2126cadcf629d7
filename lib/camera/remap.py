"""Remapping of images and labels from one camera to another: each target pixel shows the source pixel of its ray.

Where the map shrinks the source, images are read from a pyramid, against aliasing, and labels keep thin classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np

from lib.camera.grid import CELL, Grid, build_grid
from lib.camera.models import Camera
from lib.camera.pyramid import THIN, Pyramid

THIN_SHARE = 0.2
"""Share of a pixel from which a thin class takes it, read bilinearly; about a quarter, counted exactly."""

_LEVELS = 6  # halvings of the source at most
_SHRINKS = 1.1  # source pixels per target pixel from which a label's thin classes need care
_CACHED = 2  # remaps; one for 1920x1080 takes 40 MB


def rotation(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """Return the matrix that turns a camera right (yaw), up (pitch) and clockwise (roll), ``float64 (3, 3)``; rad."""
    vectors = ((0.0, yaw, 0.0), (pitch, 0.0, 0.0), (0.0, 0.0, roll))
    about_y, about_x, about_z = (cv2.Rodrigues(np.array(v, dtype=np.float64))[0] for v in vectors)
    return about_y @ about_x @ about_z


def rays(target: Camera, pixels: np.ndarray, turn: np.ndarray, shift=None) -> np.ndarray:
    """Return the source rays ``float64 (..., 3)`` of target pixels ``(..., 2)``; arguments as :func:`build_remap`."""
    rays = target.unproject(pixels) @ turn.T
    if shift is None:
        return rays
    # The ray starts at ``shift`` and meets the unit sphere around the source camera at ``distance``.
    shift = np.asarray(shift, dtype=np.float64)
    along = rays @ shift
    distance = np.sqrt(along * along + 1 - shift @ shift) - along
    return shift + distance[..., None] * rays


@dataclass(frozen=True, eq=False)
class Remap:
    """A pixel map for images and labels of one size.

    Attributes:
        size: (width, height) of the source images.
        given_pyramid: pyramid shared with other maps; None: this map's own.
        slack: source pixels beyond the image's sides that the map still covers, against gaps between adjacent images.
        window: rows and columns of the map that are the result.
    """

    grid: Grid
    size: tuple[int, int]
    given_pyramid: Pyramid | None = None
    slack: float = 0.0
    window: tuple[slice, slice] = (slice(None), slice(None))

    @property
    def x(self) -> np.ndarray:
        """Source x of each target pixel, ``float32 (H, W)``; outside of the image where nothing is seen."""
        return self._planes[0]

    @property
    def y(self) -> np.ndarray:
        """Source y, as :attr:`x`."""
        return self._planes[1]

    @cached_property
    def covered(self) -> np.ndarray:
        """Target pixels that the source image covers, ``bool (H, W)``."""
        return self._seen > 0

    def image(self, image: np.ndarray, atlas: np.ndarray | None = None) -> np.ndarray:
        """Remap ``uint8 (h, w, 3)`` to ``(H, W, 3)``; black where the source sees nothing.

        ``atlas``: the pyramid's atlas of the image, where it exists already.
        """
        self._check(image)
        remapped = cv2.remap(self.pyramid.atlas(image) if atlas is None else atlas, *self._maps, cv2.INTER_LINEAR)
        return cv2.bitwise_and(remapped, remapped, mask=self._seen)

    def label(self, label: np.ndarray, thin: np.ndarray | None = None) -> np.ndarray:
        """Remap class ids ``uint8 (h, w)`` to ``(H, W)``; IGNORE where the source sees nothing.

        A pixel takes the class at its centre; where the map shrinks, a thin class that fills at least ``THIN_SHARE``
        of a pixel takes it first. ``thin``: the pyramid's atlas of the thin classes, where it exists already.
        """
        self._check(label)
        remapped = cv2.remap(label, *self._planes, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        remapped = cv2.bitwise_or(remapped, cv2.bitwise_not(self._seen))  # IGNORE is 255
        if not (self.grid.area > _SHRINKS).any():
            return remapped
        thin = self.pyramid.thin_classes(label) if thin is None else thin
        shares = np.array(cv2.split(cv2.remap(thin, *self._maps, cv2.INTER_LINEAR)))
        takes = (shares.max(axis=0) >= round(THIN_SHARE * 255)) & self.covered & self._shrinks
        remapped[takes] = np.array(THIN)[shares[:, takes].argmax(axis=0)]
        return remapped

    def _check(self, image: np.ndarray) -> None:
        (w, h), (width, height) = image.shape[1::-1], self.size
        if (w, h) != (width, height):
            raise ValueError(f"image of {w}x{h} px (expected: {width}x{height}, the source camera's size)")

    @cached_property
    def _planes(self) -> tuple[np.ndarray, np.ndarray]:
        x, y = self.grid.planes(((1, 0), (1, 0)))
        return x[self.window], y[self.window]

    @cached_property
    def _seen(self) -> np.ndarray:
        """255 where the source covers a pixel, up to half a pixel beyond its outer centres, ``uint8 (H, W)``."""
        sides = zip(self._planes, self.size, strict=True)
        return cv2.bitwise_and(*(cv2.inRange(p, -0.5 - self.slack, n - 0.5 + self.slack) for p, n in sides))

    @cached_property
    def _source_crop(self) -> tuple[slice, slice]:
        """Rows and columns of the source that the map reads."""
        edge, sides = 1 << _LEVELS, []
        for low, high, whole in zip(*self.grid.bounds(), self.size, strict=True):
            # Whole pixels of every level of the pyramid, and one more to either side.
            first = max(0, int(min(low, whole - 1)) // edge - 1) * edge
            sides.append(slice(first, max(first + 1, min(whole, (int(max(high, 0)) // edge + 2) * edge))))
        return sides[1], sides[0]

    @cached_property
    def _shrinks(self) -> np.ndarray:
        shrinks = np.repeat(np.repeat(self.grid.area > _SHRINKS, CELL, axis=0), CELL, axis=1)
        return shrinks[: self.grid.size[1], : self.grid.size[0]][self.window]

    @cached_property
    def _levels(self) -> np.ndarray:
        """Level of the pyramid that each cell reads, ``int (n, m)``."""
        area = self.grid.area
        known = area > 0
        levels = np.floor(np.log2(area, where=known, out=np.zeros_like(area)) / 2).clip(0, _LEVELS)
        levels[~known] = levels[known].min() if known.any() else 0
        return levels.astype(int)

    @cached_property
    def pyramid(self) -> Pyramid:
        """Layout of the pyramid from which images are read."""
        return self.given_pyramid or common_pyramid([self])

    @cached_property
    def _maps(self) -> tuple[np.ndarray, np.ndarray]:
        """Fixed-point tables into the pyramid's atlas, ``int16 (H, W, 2)`` and ``uint16 (H, W)``."""
        (rows, columns), levels = self.pyramid.crop, self.pyramid.levels
        if [level for level, *_ in levels] == [0]:
            whole, fraction = cv2.convertMaps(*self._planes, cv2.CV_16SC2)
            return cv2.add(whole, np.array([1.0 - columns.start, 1.0 - rows.start, 0, 0])), fraction
        lines = np.zeros((2, 2, *self._levels.shape))
        for level, x, y, width, height in levels:
            for axis, origin, length, side in ((0, x, width, columns), (1, y, height, rows)):
                factor = length / (side.stop - side.start)
                lines[axis, :, self._levels == level] = factor, (0.5 - side.start) * factor - 0.5 + origin
        x_plane, y_plane = self.grid.planes(lines)
        return cv2.convertMaps(x_plane[self.window], y_plane[self.window], cv2.CV_16SC2)


def common_pyramid(maps: Sequence[Remap]) -> Pyramid:
    """Return the layout of one pyramid from which several maps of the same images can be read."""
    rows, columns = (
        slice(min(side.start for side in sides), max(side.stop for side in sides))
        for sides in zip(*(m._source_crop for m in maps), strict=True)
    )
    least, most = min(m._levels.min() for m in maps), max(m._levels.max() for m in maps)
    return Pyramid.build((rows, columns), int(least), int(most))


def build_remap(target: Camera, source: Camera, turn=None, region=None, shift=None, *, slack=0.0) -> Remap:
    """Build the map from a source camera's images to a target camera's, right to 0.05 pixels.

    Args:
        turn: ``(3, 3)`` rotation from target to source rays; None: both look the same way.
        region: (x, y, width, height) of the target image; None for all of it.
        shift: position of the target camera along the source camera's axes, in distances to the scene; below 1.
    """
    x0, y0, width, height = region or (0, 0, target.width, target.height)
    turn = np.eye(3) if turn is None else turn

    def exact(x, y):
        return source.project(rays(target, np.stack([x + x0, y + y0], axis=-1), turn, shift))

    size = source.width, source.height
    return Remap(build_grid(exact, (width, height), size), size, slack=slack)


def build_table(target: Camera, source: Camera, turn=None, region=None, shift=None) -> np.ndarray:
    """Return the source pixel (x, y) of every target pixel, ``float32 (height, width, 2)``; NaN where there is none."""
    remap = build_remap(target, source, turn, region, shift)
    table = cv2.merge([remap.x, remap.y])
    table[~remap.covered] = np.nan
    return table


def covered(table: np.ndarray) -> np.ndarray:
    """Return the target pixels of a table that the source image covers, ``bool (H, W)``."""
    return np.isfinite(table[..., 0])


def cached_remap(target: Camera, source: Camera, turn=None, region=None, shift=None) -> Remap:
    """Build a map as :func:`build_remap`, or return it where it is one of the last two."""
    turned = None if turn is None else tuple(np.asarray(turn, dtype=np.float64).ravel())
    return _cached(target, source, turned, region and tuple(region), shift and tuple(shift))


@lru_cache(maxsize=_CACHED)
def _cached(target, source, turn, region, shift) -> Remap:
    return build_remap(target, source, None if turn is None else np.reshape(turn, (3, 3)), region, shift)
