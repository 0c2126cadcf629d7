"""The source pixel of every target pixel, computed exactly on a coarse grid and by cubics in between.

Two cameras, a turn and a shift give a smooth map of pixels; one exact place in 256 tells the rest to a few
hundredths of a pixel. Where it does not, as an exact value in the middle of each cell shows, the cell gets a finer
grid, and where that is not enough either, all its pixels are computed. What is needed of the map is always some
multiple of it (source pixels, or pixels of a smaller copy of the source), so the grid is multiplied and not the map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

CELL = 16
"""Pixels between the places that are computed exactly."""
NOWHERE = np.float32(-9999)
"""A source pixel outside of everything."""
_FINE = 8  # pixels between exact places where a cell needs more of them
_EXACT = 0.02  # source pixels; a larger error in the middle of a cell asks for a finer grid
_ROUGH = 1.0  # source pixels; with an error up to this, a cell's cubics still tell how much it shrinks
_FAR = 1e6  # source pixels; what is farther out is in no image


def _weights(places: np.ndarray) -> np.ndarray:
    """``float64 (len(places), 4)``: of the nodes -1, 0, 1, 2, for a cubic read at ``places`` (Lagrange)."""
    nodes = np.arange(-1.0, 3)
    return np.stack([np.prod([(places - m) / (n - m) for m in nodes if m != n], axis=0) for n in nodes], axis=-1)


_CUBIC = _weights(np.arange(CELL) / CELL).astype(np.float32)
_MIDDLE = _weights(np.array([0.5]))[0]
_SLOPE = np.array([1, -27, 27, -1]) / 24  # of the same cubic, in its middle
# One cell on its finer grid, whose nodes lie one before it and one behind.
_STEPS = CELL // _FINE
_FINE_CUBIC, _FINE_MIDDLE = np.zeros((CELL, _STEPS + 3)), np.zeros((_STEPS, _STEPS + 3))
for _i in range(_STEPS):
    _FINE_CUBIC[_FINE * _i : _FINE * (_i + 1), _i : _i + 4] = _weights(np.arange(_FINE) / _FINE)
    _FINE_MIDDLE[_i, _i : _i + 4] = _MIDDLE


@dataclass(frozen=True, eq=False)
class Grid:
    """A map of (width, height) target pixels.

    Attributes:
        nodes: ``float32 (2, n + 3, m + 3)``, x and y of the source pixel at every ``CELL``-th target pixel, from one
            cell before the first pixel on.
        far: ``bool (n, m)``, cells that lie far outside the source image.
        area: ``float64 (n, m)``, source pixels per target pixel in each cell; 0 where it is not known.
        size: (width, height).
        cells: ``int (2, K)``, row and column of the cells that the cubics do not describe.
        values: ``float32 (2, K, CELL, CELL)``, their source pixels.
    """

    nodes: np.ndarray
    far: np.ndarray
    area: np.ndarray
    size: tuple[int, int]
    cells: np.ndarray
    values: np.ndarray

    def planes(self, lines) -> tuple[np.ndarray, np.ndarray]:
        """``float32 (height, width)`` each: factor * x + offset, and the same of y; ``NOWHERE`` in far cells.

        Args:
            lines: ((factor, offset) of x, (factor, offset) of y), each a number or ``(n, m)``, one per cell.
        """
        return tuple(self._plane(axis, *line) for axis, line in enumerate(lines))

    def _plane(self, axis: int, factor, offset) -> np.ndarray:
        n, m = self.far.shape
        factor, offset = np.where(self.far, 0, factor).astype(np.float32), np.where(self.far, NOWHERE, offset)
        windows = np.lib.stride_tricks.sliding_window_view(self.nodes[axis], 4, axis=1)
        across = (windows @ _CUBIC.T).reshape(n + 3, m * CELL)
        rows = np.lib.stride_tricks.sliding_window_view(across, 4, axis=0).swapaxes(1, 2)
        # The weights of a cubic sum to one, so that what is done to its nodes is done to all that it gives.
        rows = rows * np.repeat(factor, CELL, axis=1)[:, None]
        rows += np.repeat(offset.astype(np.float32), CELL, axis=1)[:, None]
        plane = np.matmul(_CUBIC, rows)
        if self.cells.size:
            times, plus = (np.float32(line[*self.cells])[:, None, None] for line in (factor, offset))
            own = self.values[axis] * times + plus
            plane.reshape(n, CELL, m, CELL)[self.cells[0], :, self.cells[1]] = own
        return plane.reshape(n * CELL, m * CELL)[: self.size[1], : self.size[0]]

    def reach(self) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest (x, y) that a cell may have, far ones left out."""
        cubic = ~self.far
        cubic[*self.cells] = False
        # The nodes that a cell's cubic goes through start at its own place in the array.
        framed = cv2.copyMakeBorder(cubic.astype(np.uint8), 0, 3, 0, 3, cv2.BORDER_CONSTANT, value=0)
        used = cv2.dilate(framed, np.ones((4, 4), np.uint8), anchor=(3, 3)) > 0
        found = np.concatenate([self.nodes[:, used], self.values.reshape(2, -1)], axis=1)
        return (found.min(axis=1), found.max(axis=1)) if found.size else (np.zeros(2), np.zeros(2))


def compute(exact: Callable, size: tuple[int, int], source: tuple[int, int]) -> Grid:
    """The grid of a map.

    Args:
        exact: takes x and y of target pixels, gives their source pixels ``(..., 2)``; NaN where there are none.
        size: (width, height) of the target.
        source: (width, height) of the source.
    """
    columns, rows = (np.arange(-1, -(-n // CELL) + 2.0) * CELL for n in size)
    inside = np.meshgrid(columns[1:-2] + CELL / 2, rows[1:-2] + CELL / 2)
    nodes, middle = _at_once(exact, np.meshgrid(columns, rows), inside)
    with np.errstate(invalid="ignore", over="ignore"):
        guess, area = _middles(nodes)
        error = np.abs(guess - middle).max(axis=-1)
        off = ~(error <= _EXACT)  # also where a value is NaN
        area = np.where((error <= _ROUGH) & np.isfinite(area), area, 0)
        # Beside a cell that is off, the next may be right in its middle by chance alone.
        off = cv2.dilate(off.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        inner = nodes[1:-1, 1:-1]
        corners = np.stack([inner[:-1, :-1], inner[:-1, 1:], inner[1:, :-1], inner[1:, 1:], middle])
        near = _near(np.fmin.reduce(corners), np.fmax.reduce(corners), source)
    cells = np.nonzero(off & near)
    values = _finer(exact, *cells, source) if cells[0].size else np.empty((0, CELL, CELL, 2))
    nodes = np.nan_to_num(nodes, nan=0.0).clip(-_FAR, _FAR)
    nodes, values = (np.ascontiguousarray(np.moveaxis(a, -1, 0), dtype=np.float32) for a in (nodes, values))
    return Grid(nodes, off & ~near, area, tuple(size), np.array(cells), values)


def _middles(nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the cubics give in the middle of each cell, ``(n, m, 2)``, and the area of a target pixel there."""

    def read(values, weights):  # along the first axis, which comes out last but one
        count = len(values) - 3
        return sum(w * values[i : i + count] for i, w in enumerate(weights)).swapaxes(0, 1)

    down, slope = read(nodes, _MIDDLE), read(nodes, _SLOPE / CELL)
    across_x, across_y = np.moveaxis(read(down, _SLOPE / CELL), -1, 0)
    down_x, down_y = np.moveaxis(read(slope, _MIDDLE), -1, 0)
    return read(down, _MIDDLE), np.abs(across_x * down_y - across_y * down_x)


def _near(low: np.ndarray, high: np.ndarray, source: tuple[int, int]) -> np.ndarray:
    """Whether a cell between ``low`` and ``high (..., 2)`` may show some of the source image."""
    margin = 0.15 * np.minimum(high - low, source) + 1
    return ((high + margin >= 0) & (low - margin <= source)).all(axis=-1)


def _finer(exact: Callable, rows: np.ndarray, columns: np.ndarray, source: tuple[int, int]) -> np.ndarray:
    """Source pixels ``(K, CELL, CELL, 2)`` of cells that need a finer grid."""
    x0, y0 = columns * CELL, rows * CELL

    def places(at):
        return np.broadcast_arrays(x0[:, None, None] + at[None, None], y0[:, None, None] + at[None, :, None])

    at = np.arange(-1.0, _STEPS + 2) * _FINE
    nodes, middle = _at_once(exact, places(at), places(at[1:-2] + _FINE / 2))
    # A place without a source pixel spoils the cubics that read it, and only those.
    nodes = np.nan_to_num(nodes, nan=_FAR).clip(-_FAR, _FAR)
    inner = nodes[:, 1:-1, 1:-1]
    corners = np.stack([inner[:, :-1, :-1], inner[:, :-1, 1:], inner[:, 1:, :-1], inner[:, 1:, 1:], middle])
    with np.errstate(invalid="ignore", over="ignore"):
        near = _near(np.fmin.reduce(corners), np.fmax.reduce(corners), source)
        off = ~(np.abs(_read(_FINE_MIDDLE, nodes) - middle).max(axis=-1) <= _EXACT)
        off |= off.any(axis=(1, 2), keepdims=True)
    values = _read(_FINE_CUBIC, nodes)
    values[_pixels(off)] = NOWHERE
    k, row, column = np.nonzero(_pixels(off & near))
    values[k, row, column] = np.nan_to_num(exact(x0[k] + column, y0[k] + row), nan=NOWHERE)
    return values.clip(-_FAR, _FAR)


def _at_once(exact: Callable, first, second) -> tuple[np.ndarray, np.ndarray]:
    """``exact`` at two sets of places (x, y), in one call: most of its time goes by before the first place."""
    found = exact(*(np.concatenate([a.ravel(), b.ravel()]) for a, b in zip(first, second, strict=True)))
    count = first[0].size
    return found[:count].reshape(*first[0].shape, 2), found[count:].reshape(*second[0].shape, 2)


def _read(weights: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Cubics through nodes ``(K, j, j, 2)``, read at the places that ``weights (i, j)`` stand for: ``(K, i, i, 2)``."""
    return np.einsum("ia,kabc,jb->kijc", weights, nodes, weights, optimize=True)


def _pixels(cells: np.ndarray) -> np.ndarray:
    """Every value of ``(K, i, i)`` for each of its ``_FINE`` x ``_FINE`` pixels."""
    return np.repeat(np.repeat(cells, _FINE, axis=1), _FINE, axis=2)


def spread_out(cells: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Every value of ``(n, m)`` for each pixel of its cell, in an image of ``size`` = (width, height)."""
    whole = cells.shape[1] * CELL, cells.shape[0] * CELL
    return cv2.resize(cells, whole, interpolation=cv2.INTER_NEAREST)[: size[1], : size[0]]


class Dense:
    """A map given pixel by pixel, with what a :class:`Grid` offers.

    Args:
        table: ``float32 (height, width, 2)``; NaN where there is no source pixel.
    """

    def __init__(self, table: np.ndarray):
        self.table, self.size = table, table.shape[1::-1]
        width, height = self.size
        rows, columns = (np.minimum(np.arange(CELL // 2, n + CELL // 2, CELL), max(0, n - 2)) for n in (height, width))
        corner = table[np.ix_(rows, columns)]
        right, below = (
            table[np.ix_(np.minimum(rows + down, height - 1), np.minimum(columns + 1 - down, width - 1))] - corner
            for down in (0, 1)
        )
        self.area = np.nan_to_num(np.abs(right[..., 0] * below[..., 1] - right[..., 1] * below[..., 0])).astype(float)

    def planes(self, lines) -> tuple[np.ndarray, np.ndarray]:
        """As :meth:`Grid.planes`."""
        values = np.nan_to_num(self.table, nan=NOWHERE)
        planes = []
        for axis, line in enumerate(lines):
            factor, offset = (
                spread_out(np.broadcast_to(np.float32(part), self.area.shape).copy(), self.size) for part in line
            )
            planes.append(np.where(np.isfinite(self.table[..., 0]), values[..., axis] * factor + offset, NOWHERE))
        return tuple(planes)

    def reach(self) -> tuple[np.ndarray, np.ndarray]:
        """As :meth:`Grid.reach`."""
        found = self.table[np.isfinite(self.table[..., 0])]
        return (found.min(axis=0), found.max(axis=0)) if len(found) else (np.zeros(2), np.zeros(2))
