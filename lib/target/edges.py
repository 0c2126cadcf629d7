"""Long smooth edges in images, to sub-pixel accuracy: the evidence from which a lens is estimated.

An edge is a run of connected Canny pixels that neither turns sharply nor wiggles. It may be the image of a straight
line or of a curve; the fit of the lens decides.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import cv2
import numpy as np

from lib.dataset.image_files import read_image
from lib.errors import InputError
from lib.parallel import in_threads

POINTS = 10
"""Points of an edge, evenly spaced along it."""

_WIDTH = 960  # larger images are shrunk: their edges are blurred over more than a pixel
_SHORTEST = 0.03  # of the width (and 16 pixels at least); shorter edges have no clear direction
_MOST = 150  # edges per image
_BLUR = 1.5  # pixels; the sub-pixel step below needs a gradient that is smooth over three of them
_TURN = np.radians(25)  # between neighbouring pixels; corners turn more, edges of distorted lines far less
_BOW = 0.2  # of an edge's length; no lens that sees a street curves a straight line more
_WIGGLE = 0.3  # pixels (root mean square) around a parabola
_CELLS = 240  # over the larger side: two images have an edge in common where it lies in the same or the next cell
_REPEATED = 0.9  # likeness of a frame given again, even compressed anew; of a standing car's frames, it is up to 0.86
_ENDS = 2  # pixels left out at each end, where corners round the edge


@dataclass(frozen=True)
class Edges:
    """Edges of several images."""

    points: np.ndarray  # float64 (E, POINTS, 2), pixels (x, y) along each edge
    frame: np.ndarray  # int (E,), index of its image; ascending
    repeats: int = 0  # images left out, since they repeat an earlier one

    @cached_property
    def likeness(self) -> np.ndarray:
        """Share of edge points that each two images have in common, 0-1, ``float32 (images, images)``."""
        images = int(self.frame.max(initial=-1)) + 1
        cells = (self.points * (_CELLS / max(1.0, self.points.max(initial=1.0)))).astype(int).clip(0, _CELLS - 1)
        has_edge = np.zeros((images, _CELLS, _CELLS), np.float32)
        has_edge[self.frame[:, None], cells[..., 1], cells[..., 0]] = 1
        near_edge = np.array([cv2.dilate(image, np.ones((3, 3))) for image in has_edge])
        first, second = has_edge.reshape(images, _CELLS**2), near_edge.reshape(images, _CELLS**2)
        share = first @ second.T / np.maximum(first.sum(axis=1, keepdims=True), 1)
        return np.minimum(share, share.T)

    def without_repeats(self) -> Self:
        """Return the edges less those of images that repeat an earlier one, up to noise."""
        images: list[int] = []
        for image, likeness in enumerate(self.likeness):
            if not (likeness[images] > _REPEATED).any():
                images.append(image)
        kept = np.isin(self.frame, images)
        return replace(self, points=self.points[kept], frame=self.frame[kept], repeats=len(self.likeness) - len(images))

    def note(self) -> str:
        """Return what a report adds to the number of images."""
        return f" ({self.repeats} of them repeated, which count once)" if self.repeats else ""


def shrunk_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the (width, height) at which edges are searched in images of ``size``."""
    width = min(size[0], _WIDTH)
    return width, round(size[1] * width / size[0])


def collect_edges(
    paths: Sequence[Path], size: tuple[int, int], view: np.ndarray, title: str, *, strict: bool = True
) -> Edges:
    """Find the edges of images of ``size`` = (width, height) in ``view``, ``bool (H, W)`` of the shrunk size.

    They are in pixels of the view. Of images that repeat each other, the first counts. With ``strict`` an image of
    another size is an error; otherwise it has no edges.

    Raises:
        InputError: an unreadable image, or one of another size.
    """

    def find(path: Path) -> np.ndarray:
        image = read_image(path)
        if image.shape[1::-1] != size:
            if not strict:
                return np.empty((0, POINTS, 2))
            found, expected = ("x".join(map(str, s)) for s in (image.shape[1::-1], size))
            raise InputError(f"{path}: {found} px, but the overlay is {expected}. All frames must be of one camera.")
        if image.shape[:2] != view.shape:
            image = cv2.resize(image, view.shape[::-1], interpolation=cv2.INTER_AREA)
        return find_edges(image, view, max(_SHORTEST * view.shape[1], 16), _MOST)

    points = in_threads(find, paths, title)
    frame = np.repeat(np.arange(len(points)), [len(edges) for edges in points])
    return Edges(np.concatenate(points), frame).without_repeats()


def find_edges(image: np.ndarray, view: np.ndarray, shortest: float, most: int) -> np.ndarray:
    """Find up to ``most`` smooth edges of at least ``shortest`` pixels, ``float64 (edges, POINTS, 2)``, longest first.

    They are searched in ``uint8 (H, W, 3)`` RGB where ``view``, ``bool (H, W)``, is True.
    """
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), _BLUR)
    dx, dy = (cv2.Sobel(grey, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
    strength = np.hypot(dx, dy)  # the last digits of cv2.magnitude depend on where the arrays lie in memory
    pixels = _edge_pixels(dx, dy, strength, view)
    if not pixels.any():
        return np.empty((0, POINTS, 2))
    _, runs = cv2.connectedComponents(pixels.astype(np.uint8), connectivity=8)
    y, x = np.nonzero(pixels)
    run = runs[y, x]
    order = np.argsort(run, kind="stable")
    points = _refine(x[order], y[order], dx, dy, strength)
    split = np.split(points, np.flatnonzero(np.diff(run[order])) + 1)
    edges = [edge for part in split for edge in _smooth_parts(part, shortest)]
    edges.sort(key=lambda edge: -np.linalg.norm(edge[-1] - edge[0]))
    return np.array(edges[:most]).reshape(-1, POINTS, 2)


def _edge_pixels(dx: np.ndarray, dy: np.ndarray, strength: np.ndarray, view: np.ndarray) -> np.ndarray:
    """Return Canny's pixels in view without those at corners and junctions, ``bool (H, W)``."""
    if not view.any():
        return view
    # The median is texture and noise; edges stand out from it, by day and by night.
    high = max(3 * float(np.median(strength[view])), float(np.percentile(strength[view], 85)), 1.0)
    scale = 64  # Canny takes whole numbers
    slope_x, slope_y = ((scale * slope).astype(np.int16) for slope in (dx, dy))
    pixels = (cv2.Canny(slope_x, slope_y, scale * high / 2, scale * high, L2gradient=True) > 0) & view
    direction = np.exp(1j * np.arctan2(dy, dx))
    corner = np.zeros_like(pixels)
    for offset in ((0, 1), (1, 0), (1, 1), (1, -1)):
        # Each pair of neighbours is compared once, and a turn marks both.
        neighbour, beside = (np.roll(values, offset, (0, 1)) for values in (direction, pixels))
        turns = pixels & beside & ((direction * neighbour.conj()).real < np.cos(_TURN))
        corner |= turns | np.roll(turns, (-offset[0], -offset[1]), (0, 1))
    return pixels & ~corner


def _refine(x: np.ndarray, y: np.ndarray, dx: np.ndarray, dy: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Move pixels along the gradient to the vertex of the parabola through three gradient strengths, ``(N, 2)``."""
    pixels = np.stack([x, y], axis=-1).astype(np.float32)
    middle = strength[y, x]
    across = np.stack([dx[y, x], dy[y, x]], axis=-1) / middle[:, None]
    before, behind = (_sample(strength, pixels + side * across) for side in (-1, 1))
    curvature = before - 2 * middle + behind
    step = np.where(curvature < 0, 0.5 * (before - behind) / np.minimum(curvature, -1e-6), 0)
    return (pixels + np.clip(step, -0.8, 0.8)[:, None] * across).astype(np.float64)


def _sample(values: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Read values bilinearly at ``float32 (N, 2)`` pixels; in slices, since OpenCV takes at most 32767 rows."""
    slices = np.array_split(pixels, len(pixels) // 30000 + 1)
    return np.concatenate([cv2.remap(values, part[:, 0], part[:, 1], cv2.INTER_LINEAR)[:, 0] for part in slices])


def _smooth_parts(run: np.ndarray, shortest: float) -> Iterator[np.ndarray]:
    """Yield the smooth stretches ``(POINTS, 2)`` of a connected run ``(N, 2)``: the whole, or parts of its halves."""
    if len(run) < shortest * 0.7 + 2 * _ENDS:  # diagonal runs have fewer pixels than their length
        return
    centred = run - run.mean(axis=0)
    along = np.linalg.eigh(np.cov(centred.T))[1][:, 1]
    t, off = centred @ along, centred @ (-along[1], along[0])
    inner = (t >= t.min() + _ENDS) & (t <= t.max() - _ENDS)
    if np.ptp(t) < shortest + 2 * _ENDS or inner.sum() < POINTS:
        return
    powers = np.vander(t[inner], 3, increasing=True)
    parabola = np.linalg.lstsq(powers, off[inner], rcond=None)[0]
    wiggle = np.sqrt(np.mean((off[inner] - powers @ parabola) ** 2))
    if wiggle <= _WIGGLE and np.ptp(off) <= _BOW * np.ptp(t):
        groups = np.array_split(run[inner][np.argsort(t[inner])], POINTS)
        yield np.array([group.mean(axis=0) for group in groups])
        return
    yield from _smooth_parts(run[t <= 0], shortest)
    yield from _smooth_parts(run[t > 0], shortest)
