"""Long smooth edges in a frame, to sub-pixel accuracy: what the calibration of a lens looks for straight lines in.

An edge here is a run of connected Canny pixels that neither turns sharply nor wiggles. Whether it is the image of
a straight line (a kerb, a pole) or of a bend in the world (a wheel, a crown) cannot be told here; the fit decides.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

POINTS = 10
"""Points that stand for an edge, evenly spread from its one end to the other."""

_BLUR = 1.5  # pixels; the sub-pixel step below needs a gradient that is smooth over three of them
_TURN = np.radians(25)  # between neighbouring pixels; corners turn more, edges on bent lines far less
_BOW = 0.2  # of an edge's length: what bends more is no straight line in any lens that sees a street
_WIGGLE = 0.3  # pixels (root mean square) around a parabola
_ENDS = 2  # pixels left out at each end, where corners round the edge


def find_edges(image: np.ndarray, view: np.ndarray, shortest: float, most: int) -> np.ndarray:
    """The longest smooth edges of one frame.

    Args:
        image: ``uint8 (H, W, 3)`` RGB.
        view: ``bool (H, W)``, where to look.
        shortest: length in pixels that an edge must have.
        most: number of edges to keep, the longest ones.

    Returns:
        ``float64 (edges, POINTS, 2)`` pixels (x, y), longest edge first.
    """
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), _BLUR)
    dx, dy = (cv2.Sobel(grey, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
    strength = cv2.magnitude(dx, dy)
    pixels = _edge_pixels(dx, dy, strength, view)
    _, parts = cv2.connectedComponents(pixels.astype(np.uint8), connectivity=8)
    y, x = np.nonzero(pixels)
    part = parts[y, x]
    order = np.argsort(part, kind="stable")
    points = _refined(x[order], y[order], dx, dy, strength)
    runs = np.split(points, np.flatnonzero(np.diff(part[order])) + 1)
    edges = [edge for run in runs for edge in _smooth_parts(run, shortest)]
    edges.sort(key=lambda edge: -np.linalg.norm(edge[-1] - edge[0]))
    return np.array(edges[:most]).reshape(-1, POINTS, 2)


def _edge_pixels(dx: np.ndarray, dy: np.ndarray, strength: np.ndarray, view: np.ndarray) -> np.ndarray:
    """``bool (H, W)``: Canny's pixels in view, without those at corners and junctions."""
    if not view.any():
        return np.zeros(view.shape, dtype=bool)
    # The median is texture and noise; edges stand out from it, by day and by night.
    high = max(3 * float(np.median(strength[view])), float(np.percentile(strength[view], 85)), 1.0)
    fine = 64  # Canny takes whole numbers
    whole = [(fine * slope).astype(np.int16) for slope in (dx, dy)]
    canny = cv2.Canny(*whole, fine * high / 2, fine * high, L2gradient=True)
    found = (canny > 0) & view
    direction = np.exp(1j * np.arctan2(dy, dx))
    corner = np.zeros_like(found)
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        # Compared with one neighbour, the other is compared with this one too.
        beside, there = np.roll(direction, (down, right), (0, 1)), np.roll(found, (down, right), (0, 1))
        turns = found & there & ((direction * beside.conj()).real < np.cos(_TURN))
        corner |= turns | np.roll(turns, (-down, -right), (0, 1))
    return found & ~corner


def _refined(x: np.ndarray, y: np.ndarray, dx: np.ndarray, dy: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Pixels moved along the gradient to the vertex of the parabola through three gradient strengths, (N, 2)."""
    at = np.stack([x, y], axis=-1).astype(np.float32)
    if not len(at):
        return at.astype(np.float64)
    middle = strength[y, x]
    across = np.stack([dx[y, x], dy[y, x]], axis=-1) / middle[:, None]
    before, behind = (_sampled(strength, at + side * across) for side in (-1, 1))
    bend = before - 2 * middle + behind
    step = np.where(bend < 0, 0.5 * (before - behind) / np.minimum(bend, -1e-6), 0)
    return (at + np.clip(step, -0.8, 0.8)[:, None] * across).astype(np.float64)


def _sampled(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Bilinear samples at ``float32 (N, 2)`` pixels; in slices, since remap takes at most 32767 rows."""
    slices = [at[i : i + 30000] for i in range(0, len(at), 30000)]
    return np.concatenate([cv2.remap(values, part[:, None], None, cv2.INTER_LINEAR)[:, 0] for part in slices])


def _smooth_parts(run: np.ndarray, shortest: float) -> Iterator[np.ndarray]:
    """``(POINTS, 2)`` for each smooth stretch of a connected run ``(N, 2)``: the whole, or its halves' parts."""
    if len(run) < shortest * 0.7 + 2 * _ENDS:  # diagonal runs have fewer pixels than their length
        return
    middle = run.mean(axis=0)
    along = np.linalg.eigh(np.cov((run - middle).T))[1][:, 1]
    t, off = (run - middle) @ along, (run - middle) @ (-along[1], along[0])
    length = np.ptp(t)
    if length < shortest + 2 * _ENDS:
        return
    inner = (t >= t.min() + _ENDS) & (t <= t.max() - _ENDS)
    if inner.sum() < POINTS:
        return
    powers = np.stack([np.ones(inner.sum()), t[inner], t[inner] ** 2], axis=1)
    parabola = np.linalg.lstsq(powers, off[inner], rcond=None)[0]
    wiggle = np.sqrt(np.mean((off[inner] - powers @ parabola) ** 2))
    if wiggle <= _WIGGLE and np.ptp(off) <= _BOW * length:
        yield _spread(run[inner], t[inner])
        return
    yield from _smooth_parts(run[t <= 0], shortest)
    yield from _smooth_parts(run[t > 0], shortest)


def _spread(run: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The run's pixels averaged in POINTS groups of equal number along ``t``."""
    return np.array([group.mean(axis=0) for group in np.array_split(run[np.argsort(t)], POINTS)])
