"""Estimation of the overlay from a camera's unlabelled frames.

Where the street shows, a pixel changes over the frames together with its neighbours; in the overlay only noise changes,
independently at each pixel. The covariance over time of a pixel and its neighbours' mean tells the two apart: it is nil
in the overlay whatever the noise, and falls with the street's light in the lens's vignette.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from lib.dataset.image_files import read_image
from lib.errors import InputError
from lib.parallel import evenly_spaced
from lib.target.overlay import Overlay

_MAX_FRAMES = 256
_MEDIAN_FRAMES = 32
_WINDOW = 1 / 18  # of the height: side of a pixel's neighbourhood
_SEEN = 0.03  # of the street's usual deviation; below, the street is invisible
_JUMP = 0.4  # of the deviation three pixels on; below, a pixel lies on the static side of a sharp edge
_STREET = 0.3  # of the street's usual deviation, three pixels behind a sharp edge
_SURE = 5.0  # standard deviations of the covariance from which it is no coincidence
_BLANK = 3.0  # standard deviation (0-255) within a frame below which it shows nothing
_SMALLEST = 0.002  # of the image; a smaller static region is a coincidence of the street
_FLICKER = 0.12  # of the street's usual relative deviation; up to here, the exposure changes
_DARK = 5.0  # of 255, added to a brightness that deviations are related to: near black all are large
_QUIET = 0.5  # of the street's usual relative deviation; up to here, it may be reflections on the hood
_EDGE = 0.08  # of the brightness: change across an edge that stays where it is


def estimate_overlay(paths: Sequence[str | Path]) -> Overlay:
    """Estimate the overlay from up to 256 frames of one camera, evenly spaced.

    Frames that show nothing (black, one colour) are left out. Memory holds up to 32 frames, for the median.

    Args:
        paths: image files of equal size, at least 2; more and more varied frames give a cleaner mask.

    Raises:
        InputError: fewer than two frames that show anything, or frames of different sizes.
    """
    if len(paths) < 2:
        raise InputError(f"overlay: {len(paths)} target frame(s) (expected: at least 2, to see what changes)")
    chosen = [Path(path) for path in evenly_spaced(paths, _MAX_FRAMES)]
    for_median = set(evenly_spaced(range(len(chosen)), _MEDIAN_FRAMES))
    frames: list[np.ndarray] = []
    changes, size = None, None
    for i, path in enumerate(tqdm(chosen, desc="overlay", unit="frame", mininterval=1)):
        image = read_image(path)
        size = size or image.shape
        if image.shape != size:
            raise InputError(
                f"{path}: {image.shape[1]}x{image.shape[0]} px, but {chosen[0]} has {size[1]}x{size[0]}. "
                "All target frames must be of one camera at one size."
            )
        if image.std() < _BLANK:
            continue
        changes = changes or _Changes(image)
        changes.add(image)
        if i in for_median or len(frames) < 2:
            frames.append(image)
    if changes is None or changes.count < 2:
        raise InputError(
            f"overlay: {changes.count if changes else 0} of {len(chosen)} target frames show anything, the others are "
            "of one colour (expected: at least 2, to see what changes)"
        )
    covariance, variance, mean = changes.result()
    median = _median(frames)
    mask = static_mask(covariance, mean, median)
    deviation = np.sqrt(np.maximum(covariance, 0))
    if not mask.any():
        return Overlay(mask, median, deviation)
    noise = float(np.sqrt(max(0.0, np.median((variance - covariance)[mask]))))
    level = max(1.0, float(median[mask].mean()))
    gains = tuple(round(float(np.clip(frame[mask].mean() / level, 0.5, 2)), 4) for frame in frames)
    return Overlay(mask, median, deviation, noise, gains)


class _Changes:
    """Running sums over frames of each pixel, of its neighbours' mean, and of their products.

    All are differences to the first frame: small numbers lose nothing in float32 (Chan et al., "Algorithms for
    computing the sample variance", The American Statistician 1983).
    """

    def __init__(self, first: np.ndarray):
        self.count = 0
        self._first = first.astype(np.float32)
        self._sum, self._near_sum, self._squares, self._products = (np.zeros_like(self._first) for _ in range(4))
        self._width = max(3, round(first.shape[0] * _WINDOW) | 1)

    def add(self, frame: np.ndarray) -> None:
        change, n = frame - self._first, self._width**2
        near = cv2.blur(change, (self._width, self._width), borderType=cv2.BORDER_REFLECT_101)
        near = (near - change / n) * np.float32(n / (n - 1))  # without the pixel itself
        cv2.accumulate(change, self._sum)
        cv2.accumulate(near, self._near_sum)
        cv2.accumulateSquare(change, self._squares)
        cv2.accumulateProduct(change, near, self._products)
        self.count += 1

    def result(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return covariance with the neighbours, variance and mean, averaged over channels, ``float32 (H, W)``."""
        n = self.count
        change, near = self._sum / n, self._near_sum / n
        covariance = (self._products / n - change * near).mean(axis=-1) * (n / (n - 1))
        variance = (self._squares / n - change * change).mean(axis=-1) * (n / (n - 1))
        # The median keeps edges where they are.
        return cv2.medianBlur(covariance, 5), cv2.medianBlur(variance, 5), (self._first + change).mean(axis=-1)


def static_mask(covariance: np.ndarray, mean: np.ndarray, median: np.ndarray) -> np.ndarray:
    """Return the mask of the overlay, ``bool (H, W)``; all False where everything changes, or nothing.

    Args:
        covariance: ``float32 (H, W)`` over time, of each pixel with its neighbours.
        mean: ``float32 (H, W)`` brightness over time.
        median: ``uint8 (H, W, 3)`` median frame.
    """
    below = covariance[covariance < 0]  # half of the pixels that only noise changes
    by_chance = np.square(below).mean() ** 0.5 if below.size > 0.02 * covariance.size else 0.0
    moving = covariance > max(_SURE * by_chance, 0.1 * np.percentile(covariance, 90), 0.25)
    if not moving.any():
        return np.zeros(covariance.shape, dtype=bool)
    usual = np.median(covariance[moving])
    deviation = np.sqrt(np.maximum(covariance, 0))
    relative = deviation / (mean + _DARK)
    relative /= np.median(relative[moving])
    static = (covariance < max(_SURE * by_chance, _SEEN**2 * usual)) | (relative < _FLICKER)
    # Blur carries the street a little across a sharp edge, which lies where the deviation jumps.
    beyond = cv2.dilate(deviation, np.ones((7, 7), np.uint8))
    sharp = (deviation < _JUMP * beyond) & (beyond**2 > _STREET**2 * usual)
    static |= sharp & (cv2.dilate(static.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0)
    static = _clean(static)
    static &= ~_sky(static, moving, median)
    quiet = _clean(static | (relative < _QUIET))
    return _clean(static | _hood(quiet, static, median))


def _clean(static: np.ndarray) -> np.ndarray:
    """Return the regions at the image's border, without specks, holes and frayed edges."""
    width = max(3, round(min(static.shape) / 90) | 1)
    # A static frame around the image keeps closing and opening from eroding the regions at its border.
    mask = cv2.copyMakeBorder(static.astype(np.uint8), width, width, width, width, cv2.BORDER_CONSTANT, value=1)
    mask = cv2.morphologyEx(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, _disc(width)), cv2.MORPH_OPEN, _disc(width))
    mask = _fill_holes(_at_border(mask[width:-width, width:-width])).astype(np.uint8)
    return cv2.medianBlur(mask, round(min(static.shape) / 40) | 1) > 0  # repeats the border by itself


def _disc(width: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))


def _sky(static: np.ndarray, moving: np.ndarray, median: np.ndarray) -> np.ndarray:
    """Return the parts of ``static`` that only chance kept still, such as an overcast sky.

    Where the overlay ends, the median frame shows an edge; where the sky ends at moving skylines, it shows none. Both
    kinds of rim grow into the static region until they meet at an edge. A sky is brighter than the view and in its
    upper half; all else with a faint rim stays static.
    """
    rim, firm = _rim(static, median)
    sky = np.zeros_like(static)
    if not (rim & ~firm).any():
        return sky
    markers = np.where(static, 0, 3).astype(np.int32)
    markers[rim] = np.where(firm, 1, 2)[rim]
    smooth = cv2.GaussianBlur(median, (0, 0), 1.5)
    _, regions = cv2.connectedComponents((cv2.watershed(smooth, markers) == 2).astype(np.uint8))
    brightness = cv2.cvtColor(smooth, cv2.COLOR_RGB2GRAY)
    light, height = np.median(brightness[moving]), np.median(np.nonzero(moving)[0])
    for index in set(np.unique(regions)) - {0, *regions[-1]}:
        region = regions == index
        if np.median(brightness[region]) > light and np.median(np.nonzero(region)[0]) < height:
            sky |= region
    return sky


def _hood(quiet: np.ndarray, static: np.ndarray, median: np.ndarray) -> np.ndarray:
    """Return the parts of ``quiet`` that are a hood with reflections: thick, at the lower border, firmly edged."""
    width = round(quiet.shape[0] * 0.06) | 1
    framed = cv2.copyMakeBorder((quiet & ~static).astype(np.uint8), 0, width, width, width, cv2.BORDER_REPLICATE)
    thick = cv2.morphologyEx(framed, cv2.MORPH_OPEN, _disc(width))[:-width, width:-width]
    _, regions = cv2.connectedComponents(thick)
    hood = np.zeros_like(static)
    for index in set(regions[-1]) - {0}:
        region = regions == index
        rim, firm = _rim(static | region, median)
        rim &= region
        if rim.any() and firm[rim].mean() > 0.5:
            hood |= region
    return hood


def _rim(mask: np.ndarray, median: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where ``mask`` ends towards the view, and where the median shows an edge, ``bool (H, W)`` each."""
    rim = mask & (cv2.dilate((~mask).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
    window = np.ones((round(mask.shape[0] / 30) | 1,) * 2)
    brightness = cv2.GaussianBlur(cv2.cvtColor(median, cv2.COLOR_RGB2GRAY), (0, 0), 1).astype(np.float32)
    high, low = cv2.dilate(brightness, window), cv2.erode(brightness, window)
    return rim, high - low > _EDGE * high + 1.5


def _at_border(mask: np.ndarray) -> np.ndarray:
    """Return the components of ``uint8`` mask that touch the image's border and are not tiny."""
    _, regions, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    border = np.unique(np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]]))
    large = stats[border, cv2.CC_STAT_AREA] >= _SMALLEST * mask.size
    return np.isin(regions, border[large & (border != 0)])


def _fill_holes(mask: np.ndarray) -> np.ndarray:
    """Return the mask with specks of the view that it encloses, such as glitter of stickers."""
    _, regions, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    small = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] < _SMALLEST * mask.size)
    return mask | np.isin(regions, small[small != 0])


def _median(frames: list[np.ndarray]) -> np.ndarray:
    """Return the pixel-wise median of equal images; bands of rows bound the memory."""
    bands = np.array_split(np.arange(frames[0].shape[0]), max(1, frames[0].shape[0] // 64))
    rows = [np.median([frame[band[0] : band[-1] + 1] for frame in frames], axis=0) for band in bands]
    return np.concatenate(rows).round().astype(np.uint8)
