"""Bend an image from one camera into another: for each target pixel, the source pixel that saw the same ray.

The remap table depends on the two cameras and the rotation alone, so image and label move together. Where the
table shrinks the source, an image is read from a smaller copy of itself, so that nothing flickers, and a label
keeps the classes that are thinner than a pixel. :func:`between` keeps a few ready tables for cameras that return.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import cv2
import numpy as np

from lib.camera import grid
from lib.camera.models import Camera
from lib.dataset.classes import IGNORE, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN

THIN = (POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN)
"""Classes that shrink away first; a minified label keeps them where they fill ``THIN_SHARE`` of a pixel."""
THIN_SHARE = 0.2
"""Read bilinearly, which smooths: it labels as much as a quarter of the pixel, counted exactly, would."""

_LEVELS = 6  # of the pyramid: a source shrunk by up to 2 ** 6
_SHRINKS = 1.1  # source pixels per target pixel from which a label's thin classes need care
_KEPT = 2  # ready tables; one for 1920x1080 takes 40 MB
_IS_THIN = np.isin(np.arange(256), THIN).astype(np.uint8)[None] * 255


def rotation(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """``float64 (3, 3)`` matrix turning a camera right (yaw), up (pitch) and clockwise (roll), in radians."""
    vectors = ((0.0, yaw, 0.0), (pitch, 0.0, 0.0), (0.0, 0.0, roll))
    about_y, about_x, about_z = (cv2.Rodrigues(np.array(v, dtype=np.float64))[0] for v in vectors)
    return about_y @ about_x @ about_z


def build_table(
    target: Camera,
    source: Camera,
    turn: np.ndarray | None = None,
    region: tuple[int, int, int, int] | None = None,
    shift: tuple[float, float, float] | None = None,
) -> np.ndarray:
    """Source pixel of every target pixel, right to 0.05 pixels.

    Args:
        target: camera to render.
        source: camera that took the image.
        turn: ``(3, 3)`` rotation from target to source rays; the target camera looks along ``turn[:, 2]`` of
            the source. None: both look the same way.
        region: (x, y, width, height) of the target image to compute; None for all of it.
        shift: where the target camera stands, along the source camera's axes and in units of the distance at which
            all that it sees is taken to be; its length must be below 1.

    Returns:
        ``float32 (height, width, 2)`` source pixels (x, y); NaN where the source sees nothing.
    """
    ready = build_remap(target, source, turn, region, shift)
    table = cv2.merge([ready.x, ready.y])
    table[~ready.covered] = np.nan
    return table


def _grid(target: Camera, source: Camera, turn, region, shift) -> grid.Grid:
    x0, y0, width, height = region or (0, 0, target.width, target.height)
    turn = np.eye(3) if turn is None else turn

    def exact(x, y):
        return source.project(rays(target, np.stack([x + x0, y + y0], axis=-1), turn, shift))

    return grid.compute(exact, (width, height), (source.width, source.height))


def rays(target: Camera, pixels: np.ndarray, turn: np.ndarray, shift=None) -> np.ndarray:
    """Source rays ``float64 (..., 3)`` of target pixels ``(..., 2)``; see :func:`remap_table`."""
    there = target.unproject(pixels) @ turn.T
    return there if shift is None else _seen_from(shift, there)


def _seen_from(shift, rays: np.ndarray) -> np.ndarray:
    """Where unit ``rays`` that start at ``shift`` meet the unit sphere around the origin."""
    shift = np.asarray(shift, dtype=np.float64)
    along = rays @ shift
    far = np.sqrt(along * along + 1 - shift @ shift) - along
    return shift + far[..., None] * rays


def covered(table: np.ndarray) -> np.ndarray:
    """``bool (H, W)``: target pixels that the source image covers."""
    return np.isfinite(table[..., 0])


@dataclass(frozen=True)
class Layout:
    """A part of source images, and where copies of it, halved again and again, stand in one picture.

    Attributes:
        part: rows and columns.
        places: (level, x, y, width, height) per copy, halved ``level`` times. The largest stands left, the others below
            one another on its right, each framed by a pixel.
    """

    part: tuple[slice, slice]
    places: tuple[tuple[int, int, int, int, int], ...]

    @classmethod
    def of(cls, part: tuple[slice, slice], least: int, most: int) -> Layout:
        """With copies halved ``least`` to ``most`` times."""
        places, x, y = [], 1, 1
        for level in range(least, most + 1):
            height, width = (max(1, (side.stop - side.start) >> level) for side in part)
            places.append((level, x, y, width, height))
            x, y = (x + width + 2, 1) if len(places) == 1 else (x, y + height + 2)
        return cls(part, tuple(places))

    def picture(self, image: np.ndarray) -> np.ndarray:
        """The picture of ``uint8 (h, w)`` or ``(h, w, 3)``."""
        image, halved = image[self.part], 0
        right, bottom = (max(place[i] + place[i + 2] for place in self.places) + 1 for i in (1, 2))
        picture = np.empty((bottom, right, *image.shape[2:]), np.uint8)
        for level, x, y, width, height in self.places:
            while halved < level:
                halved += 1
                half = tuple(max(1, n // 2) for n in image.shape[1::-1])
                image = cv2.resize(image, half, interpolation=cv2.INTER_AREA)
            framed = picture[y - 1 : y + height + 1, x - 1 : x + width + 1]
            cv2.copyMakeBorder(image, 1, 1, 1, 1, cv2.BORDER_REPLICATE, dst=framed)
        return picture


class Thin:
    """Where the thin classes of a label ``uint8 (h, w)`` are, as pictures of a layout."""

    def __init__(self, label: np.ndarray, layout: Layout):
        self.label, self.layout = label, layout

    @cached_property
    def any(self) -> np.ndarray:
        return self.layout.picture(cv2.LUT(self.label, _IS_THIN))

    @cached_property
    def each(self) -> dict[int, np.ndarray]:
        """By class, those that occur."""
        masks = {c: cv2.compare(self.label, c, cv2.CMP_EQ) for c in THIN}
        return {c: self.layout.picture(mask) for c, mask in masks.items() if cv2.countNonZero(mask)}


@dataclass(frozen=True, eq=False)
class Remap:
    """A map of pixels made ready for images and labels of one size.

    Attributes:
        grid: the map.
        size: (width, height) of the source images.
        together: maps that share their :attr:`layout`; empty: this one alone.
        slack: source pixels beyond the image's sides that it still covers, lest a gap is left between images that meet.
        view: rows and columns of the map that are wanted.
    """

    grid: grid.Grid | grid.Dense
    size: tuple[int, int]
    together: Sequence[Remap] = ()
    slack: float = 0.0
    view: tuple[slice, slice] = (slice(None), slice(None))

    def cut(self, view: tuple[slice, slice]) -> Remap:
        """Only these rows and columns of it, which are views of what is computed already."""
        part = replace(self, view=view)
        part.__dict__["_planes"] = tuple(plane[view] for plane in self._planes)
        return part

    @cached_property
    def x(self) -> np.ndarray:
        """Source pixel's x of each target pixel, ``float32 (H, W)``; somewhere outside where nothing is seen."""
        return self._planes[0]

    @cached_property
    def y(self) -> np.ndarray:
        """The same of y."""
        return self._planes[1]

    @cached_property
    def covered(self) -> np.ndarray:
        """``bool (H, W)``: target pixels that the source image covers."""
        return self._seen > 0

    def image(self, image: np.ndarray, picture: np.ndarray | None = None) -> np.ndarray:
        """``uint8 (h, w, 3)`` seen through the map, as large as that; black where the source sees nothing.

        Where the layout's ``picture`` of it has been made before, anything may be there instead of black.
        """
        self._check(image)
        bent = cv2.remap(self.layout.picture(image) if picture is None else picture, *self._maps, cv2.INTER_LINEAR)
        return bent if self._sees_all or picture is not None else cv2.bitwise_and(bent, bent, mask=self._seen)

    def label(self, label: np.ndarray, thin: Thin | None = None) -> np.ndarray:
        """``uint8 (h, w)`` class ids seen through the map; IGNORE where the source sees nothing.

        A pixel takes the class at its centre; where the map shrinks, a class of ``THIN`` that fills at least
        ``THIN_SHARE`` of a pixel takes it first. With the label's ``thin`` found before, any class may be there
        instead of IGNORE.
        """
        self._check(label)
        bent = cv2.remap(label, *self._planes, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        if not self._sees_all and thin is None:
            cv2.copyTo(np.full_like(bent, IGNORE), cv2.bitwise_not(self._seen), bent)
        if not (self._area > _SHRINKS).any():
            return bent
        thin = thin or Thin(label, self.layout)
        # Not cv2.compare: it takes a single pixel for a scalar.
        filled = cv2.inRange(cv2.remap(thin.any, *self._maps, cv2.INTER_LINEAR), round(THIN_SHARE * 255), 255)
        found = cv2.findNonZero(cv2.bitwise_and(filled, self._seen, mask=self._shrinks))
        if found is not None:
            columns, rows = found[:, 0].T
            maps = [_folded(plane[rows, columns]) for plane in self._maps]
            shares = {c: cv2.remap(own, *maps, cv2.INTER_LINEAR).ravel()[: rows.size] for c, own in thin.each.items()}
            most = np.maximum.reduce(list(shares.values()))
            classes = np.select([share == most for share in shares.values()], list(shares)).astype(np.uint8)
            takes = most >= round(THIN_SHARE * 255)
            bent[rows[takes], columns[takes]] = classes[takes]
        return bent

    def _check(self, image: np.ndarray) -> None:
        if image.shape[1::-1] != tuple(self.size):
            (w, h), (width, height) = image.shape[1::-1], self.size
            raise ValueError(f"image of {w}x{h} px (expected: {width}x{height}, which the table was made for)")

    @cached_property
    def _planes(self) -> tuple[np.ndarray, np.ndarray]:
        return tuple(plane[self.view] for plane in self.grid.planes(((1, 0), (1, 0))))

    @cached_property
    def _seen(self) -> np.ndarray:
        """``uint8 (H, W)``, 255 where the source covers a pixel: half a pixel beyond its outer centres still does."""
        sides = zip(self._planes, self.size, strict=True)
        return cv2.bitwise_and(*(cv2.inRange(p, -0.5 - self.slack, n - 0.5 + self.slack) for p, n in sides))

    @cached_property
    def _sees_all(self) -> bool:
        return cv2.countNonZero(self._seen) == self._seen.size

    @cached_property
    def _part(self) -> tuple[slice, slice]:
        """Rows and columns of the source that the map reaches."""
        edge, box = 1 << _LEVELS, []
        for low, high, whole in zip(*self.grid.reach(), self.size, strict=True):
            # Whole pixels of every level of the pyramid, and one more to either side.
            first = max(0, int(min(low, whole - 1)) // edge - 1) * edge
            box.append(slice(first, max(first + 1, min(whole, (int(max(high, 0)) // edge + 2) * edge))))
        return box[1], box[0]

    @cached_property
    def _area(self) -> np.ndarray:
        """Source pixels per target pixel, ``(n, m)``; a cell that does not tell takes its neighbours' value."""
        area = self.grid.area
        return np.where(area > 0, area, cv2.dilate(area, np.ones((3, 3), np.uint8)))

    @cached_property
    def _shrinks(self) -> np.ndarray:
        return grid.spread_out((self._area > _SHRINKS).astype(np.uint8), self.grid.size)[self.view]

    @cached_property
    def _levels(self) -> np.ndarray:
        """How many times to halve the source in each cell, ``int (n, m)``."""
        area = self._area
        known = area > 0
        levels = np.floor(np.log2(area, where=known, out=np.zeros_like(area)) / 2).clip(0, _LEVELS)
        levels[~known] = levels[known].min() if known.any() else 0
        return levels.astype(int)

    @cached_property
    def layout(self) -> Layout:
        """Where the copies of the source stand from which images are read."""
        maps = self.together or (self,)
        if maps[0] is not self:
            return maps[0].layout
        part = tuple(
            slice(min(side.start for side in sides), max(side.stop for side in sides))
            for sides in zip(*(one._part for one in maps), strict=True)
        )
        least, most = min(one._levels.min() for one in maps), max(one._levels.max() for one in maps)
        return Layout.of(part, int(least), int(most))

    @cached_property
    def _maps(self) -> tuple[np.ndarray, np.ndarray]:
        """Fixed-point tables into that picture, ``int16 (H, W, 2)`` and ``uint16 (H, W)``."""
        (rows, columns), places = self.layout.part, self.layout.places
        if [level for level, *_ in places] == [0]:
            whole, fraction = cv2.convertMaps(*self._planes, cv2.CV_16SC2)
            return cv2.add(whole, (1 - columns.start, 1 - rows.start, 0, 0)), fraction
        lines = np.zeros((2, 2, *self._levels.shape))
        for level, x, y, width, height in places:
            for axis, at, now, part in ((0, x, width, columns), (1, y, height, rows)):
                factor = now / (part.stop - part.start)
                lines[axis, :, self._levels == level] = factor, (0.5 - part.start) * factor - 0.5 + at
        return cv2.convertMaps(*(plane[self.view] for plane in self.grid.planes(lines)), cv2.CV_16SC2)


def _folded(values: np.ndarray, width: int = 1024) -> np.ndarray:
    """``(N, ...)`` in rows of ``width``, filled up with zeros: OpenCV takes no more than 32767 rows or columns."""
    rows = -(-len(values) // width)
    full = np.zeros((rows * width, *values.shape[1:]), values.dtype)
    full[: len(values)] = values
    return full.reshape(rows, width, *values.shape[1:])


def cached_remap(
    target: Camera,
    source: Camera,
    turn: np.ndarray | None = None,
    region: tuple[int, int, int, int] | None = None,
    shift: tuple[float, float, float] | None = None,
) -> Remap:
    """:func:`remap_table` made ready for images of the source camera; the last few are kept for the next call."""
    turned = None if turn is None else tuple(np.asarray(turn, dtype=np.float64).ravel())
    return _between(target, source, turned, region and tuple(region), shift and tuple(shift))


@lru_cache(maxsize=_KEPT)
def _between(target, source, turn, region, shift) -> Remap:
    return build_remap(target, source, None if turn is None else np.reshape(turn, (3, 3)), region, shift)


def build_remap(target: Camera, source: Camera, turn, region, shift, **more) -> Remap:
    """What :func:`between` gives, made anew and not kept; ``more`` are the map's own fields."""
    return Remap(_grid(target, source, turn, region, shift), (source.width, source.height), **more)


def remap_from_table(table: np.ndarray, size: tuple[int, int]) -> Remap:
    """A table from :func:`remap_table` made ready for images of ``size`` = (width, height)."""
    return Remap(grid.Dense(table), tuple(size))


def remap_image(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    """:meth:`Warp.image` through a table from :func:`remap_table`."""
    return remap_from_table(table, image.shape[1::-1]).image(image)


def remap_label(label: np.ndarray, table: np.ndarray) -> np.ndarray:
    """:meth:`Warp.label` through a table from :func:`remap_table`."""
    return remap_from_table(table, label.shape[1::-1]).label(label)
