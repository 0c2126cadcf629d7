"""Smooth pixel maps: exact on a coarse grid, interpolated by cubics in between.

An exact value in the middle of each cell checks its cubics. A cell that fails gets a finer grid; what fails there is
computed pixel by pixel.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

CELL = 16  # pixels between the nodes of the grid
_OUTSIDE = -9999.0  # a source pixel outside of every image
_FINE = 8  # pixels between the nodes of the finer grid
_TOLERANCE = 0.02  # source pixels; a larger error in the middle of a cell asks for a finer grid
_ROUGH = 1.0  # source pixels; up to this error, a cell's cubics still give its area
_FAR = 1e6  # source pixels; limit of all values


def _weights(places: np.ndarray) -> np.ndarray:
    """Return Lagrange's weights of the nodes -1, 0, 1, 2 at ``places``, ``float64 (len(places), 4)``."""
    nodes = np.arange(-1.0, 3)
    return np.stack([np.prod([(places - m) / (n - m) for m in nodes if m != n], axis=0) for n in nodes], axis=-1)


_CUBIC = _weights(np.arange(CELL) / CELL).astype(np.float32)
_MIDDLE = _weights(np.array([0.5]))[0]
_SLOPE = np.array([1, -27, 27, -1]) / 24  # derivative of the cubic in its middle
# One cell on its finer grid, whose outer nodes lie one step before and one step behind the cell.
_STEPS = CELL // _FINE
_FINE_CUBIC, _FINE_MIDDLE = np.zeros((CELL, _STEPS + 3)), np.zeros((_STEPS, _STEPS + 3))
for _i in range(_STEPS):
    _FINE_CUBIC[_FINE * _i : _FINE * (_i + 1), _i : _i + 4] = _weights(np.arange(_FINE) / _FINE)
    _FINE_MIDDLE[_i, _i : _i + 4] = _MIDDLE


@dataclass(frozen=True, eq=False)
class Grid:
    """Source pixels of (width, height) target pixels.

    Attributes:
        nodes: ``float32 (2, n + 3, m + 3)``, x and y at every ``CELL``-th target pixel, from one cell before the first.
        far: ``bool (n, m)``, cells far outside the source image.
        area: ``float64 (n, m)``, source pixels per target pixel in each cell; 0 where it is not known nearby.
        cells: ``int (2, K)``, row and column of the cells that need a finer grid.
        values: ``float32 (2, K, CELL, CELL)``, their source pixels.
    """

    nodes: np.ndarray
    far: np.ndarray
    area: np.ndarray
    size: tuple[int, int]
    cells: np.ndarray
    values: np.ndarray

    def planes(self, lines) -> tuple[np.ndarray, np.ndarray]:
        """Return factor * x + offset and the same of y, ``float32 (height, width)``; far cells lie outside any image.

        ``lines``: ((factor, offset) of x, (factor, offset) of y), each a number or ``(n, m)``, one per cell.
        """
        return self._plane(0, *lines[0]), self._plane(1, *lines[1])

    def _plane(self, axis: int, factor, offset) -> np.ndarray:
        n, m = self.far.shape
        factor, offset = np.where(self.far, 0, factor).astype(np.float32), np.where(self.far, _OUTSIDE, offset)
        windows = np.lib.stride_tricks.sliding_window_view(self.nodes[axis], 4, axis=1)
        across = (windows @ _CUBIC.T).reshape(n + 3, m * CELL)
        rows = np.lib.stride_tricks.sliding_window_view(across, 4, axis=0).swapaxes(1, 2)
        # The weights of a cubic sum to one: a line applied to its nodes is applied to all its values.
        rows = rows * np.repeat(factor, CELL, axis=1)[:, None]
        rows += np.repeat(offset.astype(np.float32), CELL, axis=1)[:, None]
        plane = np.matmul(_CUBIC, rows)
        factors, offsets = (line[*self.cells].astype(np.float32)[:, None, None] for line in (factor, offset))
        cells = plane.reshape(n, CELL, m, CELL)
        cells[self.cells[0], :, self.cells[1]] = self.values[axis] * factors + offsets
        return plane.reshape(n * CELL, m * CELL)[: self.size[1], : self.size[0]]

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the least and the greatest source (x, y) of all cells but the far ones; zeros where all are far."""
        cubic = ~self.far
        cubic[*self.cells] = False
        # The cubics of a cell use the nodes from its own place in the array on.
        framed = cv2.copyMakeBorder(cubic.astype(np.uint8), 0, 3, 0, 3, cv2.BORDER_CONSTANT, value=0)
        used = cv2.dilate(framed, np.ones((4, 4), np.uint8), anchor=(3, 3)) > 0
        values = np.concatenate([self.nodes[:, used], self.values.reshape(2, -1)], axis=1)
        return (values.min(axis=1), values.max(axis=1)) if values.size else (np.zeros(2), np.zeros(2))


def build_grid(exact: Callable, size: tuple[int, int], source: tuple[int, int]) -> Grid:
    """Build the grid of a pixel map from a target to a source of these (width, height).

    ``exact``: from x and y of target pixels to source pixels ``(..., 2)``; NaN where there are none.
    """
    columns, rows = (np.arange(-1, -(-n // CELL) + 2.0) * CELL for n in size)
    middles = np.meshgrid(columns[1:-2] + CELL / 2, rows[1:-2] + CELL / 2)
    nodes, middle = exact(*np.meshgrid(columns, rows)), exact(*middles)
    with np.errstate(invalid="ignore", over="ignore"):
        cubic, area = _cubic_middles(nodes)
        error = np.abs(cubic - middle).max(axis=-1)
        fails = ~(error <= _TOLERANCE)  # also where a value is NaN
        area = np.where((error <= _ROUGH) & np.isfinite(area), area, 0)
        area = np.where(area > 0, area, cv2.dilate(area, np.ones((3, 3), np.uint8)))  # the largest neighbour's
        # Beside a cell that fails, the next one may be right in its middle by chance.
        fails = cv2.dilate(fails.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        near = _near(nodes, middle, source)
    rows, columns = np.nonzero(fails & near)
    values = _finer(exact, rows, columns, source) if rows.size else np.empty((0, CELL, CELL, 2))
    nodes = np.nan_to_num(nodes, nan=0.0).clip(-_FAR, _FAR)
    nodes, values = (np.ascontiguousarray(np.moveaxis(a, -1, 0), dtype=np.float32) for a in (nodes, values))
    return Grid(nodes, fails & ~near, area, size, np.array([rows, columns]), values)


def _cubic_middles(nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the cubics' source pixel in the middle of each cell, ``(n, m, 2)``, and the area of a pixel there."""

    def read(values, weights):  # along the first axis, which becomes the last but one
        count = len(values) - 3
        return sum(w * values[i : i + count] for i, w in enumerate(weights)).swapaxes(0, 1)

    down, slope = read(nodes, _MIDDLE), read(nodes, _SLOPE / CELL)
    across_x, across_y = np.moveaxis(read(down, _SLOPE / CELL), -1, 0)
    down_x, down_y = np.moveaxis(read(slope, _MIDDLE), -1, 0)
    return read(down, _MIDDLE), np.abs(across_x * down_y - across_y * down_x)


def _near(nodes: np.ndarray, middle: np.ndarray, source: tuple[int, int]) -> np.ndarray:
    """Return whether each cell may show some of the source image, ``bool (..., n, m)``."""
    up, down = nodes[..., 1:-2, 1:-1, :], nodes[..., 2:-1, 1:-1, :]
    points = [up[..., :-1, :], up[..., 1:, :], down[..., :-1, :], down[..., 1:, :], middle]
    low, high = np.fmin.reduce(points), np.fmax.reduce(points)
    margin = 0.15 * np.minimum(high - low, source) + 1
    return ((high + margin >= 0) & (low - margin <= source)).all(axis=-1)


def _finer(exact: Callable, rows: np.ndarray, columns: np.ndarray, source: tuple[int, int]) -> np.ndarray:
    """Return the source pixels of cells that need a finer grid, ``float64 (K, CELL, CELL, 2)``."""
    x0, y0 = columns * CELL, rows * CELL

    def places(steps):
        return np.broadcast_arrays(x0[:, None, None] + steps[None, None], y0[:, None, None] + steps[None, :, None])

    def read(weights):  # at ``weights (i, j)``, the cubics through nodes ``(K, j, j, 2)``: ``(K, i, i, 2)``
        return np.einsum("ia,kabc,jb->kijc", weights, nodes, weights, optimize=True)

    steps = np.arange(-1.0, _STEPS + 2) * _FINE
    nodes, middle = exact(*places(steps)), exact(*places(steps[1:-2] + _FINE / 2))
    # A place without a source pixel spoils the cubics that read it, and only those.
    nodes = np.nan_to_num(nodes, nan=_FAR).clip(-_FAR, _FAR)
    with np.errstate(invalid="ignore", over="ignore"):
        near = _near(nodes, middle, source)
        fails = ~(np.abs(read(_FINE_MIDDLE) - middle) <= _TOLERANCE).all(axis=(1, 2, 3))
    values = read(_FINE_CUBIC)
    values[fails] = _OUTSIDE
    k, row, column = np.nonzero(np.kron(near & fails[:, None, None], np.ones((1, _FINE, _FINE), bool)))
    values[k, row, column] = np.nan_to_num(exact(x0[k] + column, y0[k] + row), nan=_OUTSIDE)
    return values.clip(-_FAR, _FAR)
