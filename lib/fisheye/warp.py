"""Bend an image from one camera into another: for each target pixel, the source pixel that saw the same ray.

The remap table depends on the two cameras and the rotation alone, so image and label move together. Where the
table shrinks the source, an image is read from a smaller copy of itself, so that nothing flickers, and a label
keeps the classes that are thinner than a pixel. :func:`between` keeps a few ready tables for cameras that return.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np

from lib.classes import IGNORE, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN
from lib.fisheye.cameras import Camera

THIN = (POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN)
"""Classes that shrink away first; a minified label keeps them where they fill ``THIN_SHARE`` of a pixel."""
THIN_SHARE = 0.2
"""Read bilinearly, which smooths: it labels as much as a quarter of the pixel, counted exactly, would."""

_CELL = 16  # pixels between the places where the table is computed exactly
_EXACT = 0.04  # source pixels; where interpolating between those places errs more, all are computed exactly
_LEVELS = 6  # of the pyramid: a source shrunk by up to 2 ** 6
_NOWHERE = np.float32(-9999)  # a source pixel outside of everything
_SHRINKS = 1.1  # source pixels per target pixel from which a label's thin classes need care
_KEPT = 2  # ready tables; one for 1920x1080 takes 40 MB


def rotation(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """``float64 (3, 3)`` matrix turning a camera right (yaw), up (pitch) and clockwise (roll), in radians."""
    vectors = ((0.0, yaw, 0.0), (pitch, 0.0, 0.0), (0.0, 0.0, roll))
    about_y, about_x, about_z = (cv2.Rodrigues(np.array(v, dtype=np.float64))[0] for v in vectors)
    return about_y @ about_x @ about_z


def remap_table(
    target: Camera, source: Camera, turn: np.ndarray | None = None, region: tuple[int, int, int, int] | None = None,
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
    return cv2.merge(_planes(target, source, turn, region, shift))


def _planes(target: Camera, source: Camera, turn, region, shift) -> tuple[np.ndarray, np.ndarray]:
    """x and y of :func:`remap_table`, ``float32 (height, width)`` each."""
    x0, y0, width, height = region or (0, 0, target.width, target.height)
    turn = np.eye(3) if turn is None else turn

    def exact(x, y):
        rays = target.unproject(np.stack([x + x0, y + y0], axis=-1)) @ turn.T
        return source.project(rays if shift is None else _seen_from(shift, rays))

    # Every _CELL pixels exactly, a cell more before and two behind for the cubics, and once inside every cell.
    columns, rows = (np.arange(-1, -(-n // _CELL) + 2.0) * _CELL for n in (width, height))
    coarse = exact(*np.meshgrid(columns, rows))
    middle = exact(*np.meshgrid(columns[1:-2] + _CELL / 2, rows[1:-2] + _CELL / 2))
    with np.errstate(invalid="ignore", over="ignore"):
        planes = _between_places(_between_places(coarse.T.astype(np.float32)).swapaxes(1, 2))
    unsure, far = (part[:height, :width] for part in _unsure(coarse, middle, planes, source))
    rows, columns = np.nonzero(unsure)
    x, y = (np.ascontiguousarray(plane[:height, :width]) for plane in planes)
    x[rows, columns], y[rows, columns] = exact(columns, rows).T
    # Half a pixel beyond the outer centres still belongs to the image.
    with np.errstate(invalid="ignore"):
        seen = (x >= -0.5) & (x <= source.width - 0.5) & (y >= -0.5) & (y <= source.height - 0.5)
    seen &= ~far
    for plane in (x, y):
        np.copyto(plane, np.float32(np.nan), where=~seen)
    return x, y


def _seen_from(shift, rays: np.ndarray) -> np.ndarray:
    """Where unit ``rays`` that start at ``shift`` meet the unit sphere around the origin."""
    shift = np.asarray(shift, dtype=np.float64)
    along = rays @ shift
    far = np.sqrt(along * along + 1 - shift @ shift) - along
    return shift + far[..., None] * rays


def _between_places(values: np.ndarray) -> np.ndarray:
    """``float32 (..., n + 3)`` given at every ``_CELL``-th place, to ``(..., n * _CELL)`` from the second place on.

    Each cell gets the cubic through the two places before and the two behind (Lagrange).
    """
    t, nodes = np.arange(_CELL) / _CELL, np.arange(-1.0, 3)
    weights = [np.prod([(t - m) / (node - m) for m in nodes if m != node], axis=0) for node in nodes]
    windows = np.lib.stride_tricks.sliding_window_view(values, 4, axis=-1)
    return (windows @ np.float32(weights)).reshape(*values.shape[:-1], -1)


def _unsure(
    coarse: np.ndarray, middle: np.ndarray, planes: np.ndarray, source: Camera
) -> tuple[np.ndarray, np.ndarray]:
    """``bool (H, W)`` each: pixels of cells in which ``planes (2, H, W)`` may be wrong, as they are in the ``middle``;
    first those near the source image, then those far outside of it.
    """
    found = planes[:, _CELL // 2 :: _CELL, _CELL // 2 :: _CELL].transpose(1, 2, 0)
    inner = coarse[1:-1, 1:-1]
    points = np.stack([inner[:-1, :-1], inner[:-1, 1:], inner[1:, :-1], inner[1:, 1:], middle])
    with np.errstate(invalid="ignore", over="ignore"):
        off = ~(np.abs(found - middle).max(axis=-1) <= _EXACT)  # also where a value is NaN
        low, high = np.fmin.reduce(points), np.fmax.reduce(points)
        size = np.array([source.width, source.height])
        margin = 0.15 * np.minimum(high - low, size) + 1
        near = ((high + margin >= 0) & (low - margin <= size)).all(axis=-1)
    return tuple(_spread_out(cells) > 0 for cells in (off & near, off & ~near))


def _spread_out(cells: np.ndarray) -> np.ndarray:
    """``uint8``: every cell's value for each of its pixels."""
    size = cells.shape[1] * _CELL, cells.shape[0] * _CELL
    return cv2.resize(cells.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)


def covered(table: np.ndarray) -> np.ndarray:
    """``bool (H, W)``: target pixels that the source image covers."""
    return np.isfinite(table[..., 0])


@dataclass(frozen=True, eq=False)
class Warp:
    """A remap table made ready for images and labels of one size.

    Attributes:
        x, y: source pixels of the target pixels, ``float32 (H, W)``; NaN where the source sees nothing.
        size: (width, height) of the source images.
    """

    x: np.ndarray
    y: np.ndarray
    size: tuple[int, int]

    @cached_property
    def covered(self) -> np.ndarray:
        """``bool (H, W)``: target pixels that the source image covers."""
        return np.isfinite(self.x)

    def image(self, image: np.ndarray) -> np.ndarray:
        """``uint8 (h, w, 3)`` seen through the table, as large as that; black where the source sees nothing."""
        self._check(image)
        part, inner = self._part
        return inner._sample(image[part])

    def label(self, label: np.ndarray) -> np.ndarray:
        """``uint8 (h, w)`` class ids seen through the table; IGNORE where the source sees nothing.

        A pixel takes the class at its centre; where the table shrinks, a class of ``THIN`` that fills at least
        ``THIN_SHARE`` of a pixel takes it first.
        """
        self._check(label)
        part, inner = self._part
        return inner._label(label[part])

    @cached_property
    def _part(self) -> tuple[tuple[slice, slice], Warp]:
        """Rows and columns of the source that the table reaches, and the table for them alone."""
        edge, box = 1 << _LEVELS, []
        for plane, whole in ((self.y, self.size[1]), (self.x, self.size[0])):
            low, high = np.nanmin(plane, initial=whole), np.nanmax(plane, initial=0)
            # Whole pixels of every level of the pyramid, and one more to either side.
            first = max(0, int(low) // edge - 1) * edge
            box.append(slice(first, max(first + 1, min(whole, (int(high) // edge + 2) * edge))))
        (rows, columns), size = box, (box[1].stop - box[1].start, box[0].stop - box[0].start)
        if size == tuple(self.size):
            return (rows, columns), self
        return (rows, columns), Warp(self.x - np.float32(columns.start), self.y - np.float32(rows.start), size)

    def _label(self, label: np.ndarray) -> np.ndarray:
        warped = cv2.remap(label, self._nearest, None, cv2.INTER_NEAREST, borderValue=IGNORE)
        shrinks = self._full(self._area > _SHRINKS) > 0
        if not shrinks.any():
            return warped
        shares = cv2.split(self._sample(cv2.merge([cv2.compare(label, c, cv2.CMP_EQ) for c in THIN])))
        most = cv2.max(cv2.max(*shares[:2]), shares[2])
        takes = shrinks & (most >= round(THIN_SHARE * 255))
        for share, thin in zip(shares, THIN, strict=True):
            np.copyto(warped, np.uint8(thin), where=takes & (share == most))
        return warped

    def _check(self, image: np.ndarray) -> None:
        if image.shape[1::-1] != tuple(self.size):
            (w, h), (width, height) = image.shape[1::-1], self.size
            raise ValueError(f"image of {w}x{h} px (expected: {width}x{height}, which the table was made for)")

    @cached_property
    def _area(self) -> np.ndarray:
        """Source pixels per target pixel, one value per cell of ``_CELL`` pixels; 0 where it is not known."""
        height, width = self.x.shape
        rows, columns = (np.minimum(np.arange(_CELL // 2, n + _CELL // 2, _CELL), n - 2) for n in (height, width))
        corner, right, below = np.ix_(rows, columns), np.ix_(rows, columns + 1), np.ix_(rows + 1, columns)
        (xx, xy), (yx, yy) = ((p[right] - p[corner], p[below] - p[corner]) for p in (self.x, self.y))
        area = np.abs(xx * yy - xy * yx)  # of source per target pixel
        # A cell that the source covers in part takes its neighbours' value.
        area = np.nan_to_num(area, nan=0.0)
        return np.where(area > 0, area, cv2.dilate(area, np.ones((3, 3), np.uint8)))

    @cached_property
    def _levels(self) -> np.ndarray:
        """How many times to halve the source for each pixel, ``uint8 (H, W)``."""
        known = self._area > 0
        levels = np.floor(np.log2(self._area, where=known, out=np.zeros_like(self._area)) / 2)
        levels = levels.clip(0, _LEVELS)
        levels[~known] = levels[known].min(initial=_LEVELS)
        return self._full(levels.astype(np.uint8))

    def _full(self, cells: np.ndarray) -> np.ndarray:
        """Every cell's value for each of its pixels, ``(H, W)``."""
        height, width = self.x.shape
        return _spread_out(cells)[:height, :width]

    @cached_property
    def _places(self) -> list[tuple[int, int, int, int, int]]:
        """(level, x, y, width, height) of each halved source in the one picture that is sampled.

        The largest stands left, the others below one another on its right, each framed by a pixel.
        """
        places, x, y = [], 1, 1
        for level in range(int(self._levels.min()), int(self._levels.max()) + 1):
            width, height = (max(1, n >> level) for n in self.size)
            places.append((level, x, y, width, height))
            x, y = (x + width + 2, 1) if len(places) == 1 else (x, y + height + 2)
        return places

    @cached_property
    def _maps(self) -> tuple[np.ndarray, np.ndarray]:
        """Fixed-point tables into that picture, ``int16 (H, W, 2)`` and ``uint16 (H, W)``."""
        parts = []
        for _, x, y, width, height in self._places:
            across, down = width / self.size[0], height / self.size[1]
            parts.append(self._fixed(across, x + across / 2 - 0.5, down, y + down / 2 - 0.5))
        whole, fraction = parts[0]
        for (level, *_), maps in zip(self._places[1:], parts[1:], strict=True):
            here = self._levels == level
            np.copyto(whole.view(np.int32)[..., 0], maps[0].view(np.int32)[..., 0], where=here)
            np.copyto(fraction, maps[1], where=here)
        return whole, fraction

    def _fixed(self, *line: float) -> tuple[np.ndarray, np.ndarray]:
        across, right, down, below = map(np.float32, line)
        x = np.where(self.covered, self.x * across + right, _NOWHERE)
        return cv2.convertMaps(x, self.y * down + below, cv2.CV_16SC2)

    @cached_property
    def _nearest(self) -> np.ndarray:
        """Table of whole source pixels, ``int16 (H, W, 2)``."""
        # Half a pixel beyond the outer centres still belongs to the image.
        x, y = np.clip(self.x, 0, self.size[0] - 1), np.clip(self.y, 0, self.size[1] - 1)
        x = np.where(self.covered, x, _NOWHERE)
        return cv2.convertMaps(x, y, cv2.CV_16SC2, nninterpolation=True)[0]

    def _sample(self, image: np.ndarray) -> np.ndarray:
        """Bilinear sampling of ``uint8 (h, w, 3)``, halved as often as each pixel's surroundings shrink."""
        right, bottom = (max(place[i] + place[i + 2] for place in self._places) + 1 for i in (1, 2))
        sheet = np.empty((bottom, right, 3), np.uint8)
        halved = 0
        for level, x, y, width, height in self._places:
            while halved < level:
                halved += 1
                size = tuple(max(1, n >> halved) for n in self.size)
                image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            framed = cv2.copyMakeBorder(image, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
            sheet[y - 1 : y + height + 1, x - 1 : x + width + 1] = framed
        return cv2.remap(sheet, *self._maps, cv2.INTER_LINEAR)


def between(
    target: Camera, source: Camera, turn: np.ndarray | None = None, region: tuple[int, int, int, int] | None = None,
    shift: tuple[float, float, float] | None = None,
) -> Warp:
    """:func:`remap_table` made ready for images of the source camera; the last few are kept for the next call."""
    turned = None if turn is None else tuple(np.asarray(turn, dtype=np.float64).ravel())
    return _between(target, source, turned, region and tuple(region), shift and tuple(shift))


@lru_cache(maxsize=_KEPT)
def _between(target, source, turn, region, shift) -> Warp:
    turn = None if turn is None else np.reshape(turn, (3, 3))
    return Warp(*_planes(target, source, turn, region, shift), (source.width, source.height))


def warp_image(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    """:meth:`Warp.image` through a table from :func:`remap_table`."""
    return Warp(*cv2.split(table), image.shape[1::-1]).image(image)


def warp_label(label: np.ndarray, table: np.ndarray) -> np.ndarray:
    """:meth:`Warp.label` through a table from :func:`remap_table`."""
    return Warp(*cv2.split(table), label.shape[1::-1]).label(label)
