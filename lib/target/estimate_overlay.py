"""Estimation of the overlay from a camera's unlabelled frames.

Where the street shows, a pixel changes together with its neighbours; in the overlay only noise changes, independently
at each pixel. Their covariance over time is nil in the overlay, and falls with the street's light in the vignette.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from lib.dataset.image_files import read_image
from lib.errors import InputError
from lib.parallel import evenly_spaced
from lib.target.overlay import Overlay

MAX_FRAMES = 256
"""Frames that are looked at."""
BLANK = 3.0
"""Standard deviation (0-255) within a frame below which it shows nothing."""
_MEDIAN_FRAMES = 32
_WINDOW = 1 / 18  # of the height: side of a pixel's neighbourhood
_SEEN = 0.03  # of the street's usual deviation; below, the street is invisible
_JUMP = 0.4  # of the deviation three pixels on; below, a pixel lies on the static side of a sharp edge
_STREET = 0.3  # of the street's usual deviation, three pixels behind a sharp edge
_SURE = 5.0  # standard deviations of the covariance from which it is no coincidence
_SMALLEST = 0.002  # of the image; a smaller static region is a coincidence of the street
_FLICKER = 0.12  # of the street's usual relative deviation; up to here, the exposure changes
_DARK = 5.0  # of 255, added to a brightness that deviations are related to: near black all are large
_QUIET = 0.5  # of the street's usual relative deviation; up to here, it may be reflections on the hood
_EDGE = 0.08  # of the brightness: change across an edge that stays where it is


def estimate_overlay(paths: Sequence[str | Path]) -> Overlay:
    """Estimate the overlay from up to 256 frames of one camera, evenly spaced; those that show nothing are left out.

    More and more varied frames give a cleaner mask. Memory holds up to 32 frames, for the median.

    Raises:
        InputError: fewer than two frames that show anything, or frames of different sizes.
    """
    chosen = [Path(path) for path in evenly_spaced(paths, MAX_FRAMES)]
    for_median = set(evenly_spaced(range(len(chosen)), _MEDIAN_FRAMES))
    frames: list[np.ndarray] = []
    size, count, sums, first = None, 0, np.empty(0), np.empty(0)
    for i, path in enumerate(tqdm(chosen, desc="overlay", unit="frame", mininterval=1, delay=1)):
        image = read_image(path)
        size = size or image.shape
        if image.shape != size:
            raise InputError(
                f"{path}: {image.shape[1]}x{image.shape[0]} px, but {chosen[0]} has {size[1]}x{size[0]}. "
                "All target frames must be of one camera at one size."
            )
        if image.std() < BLANK:
            continue
        if not count:
            sums, first = np.zeros((4, *size), np.float32), image.astype(np.float32)
        _add_change(sums, image - first)
        count += 1
        if i in for_median or len(frames) < 2:
            frames.append(image)
    if count < 2:
        raise InputError(
            f"overlay: {count} of {len(chosen)} target frames show anything (expected: at least 2 that are not of one "
            "colour, to see what changes)"
        )
    change, near, squares, products = sums / count
    unbiased = count / (count - 1)
    # The median keeps edges where they are.
    covariance = cv2.medianBlur((products - change * near).mean(axis=-1) * unbiased, 5)
    variance = cv2.medianBlur((squares - change * change).mean(axis=-1) * unbiased, 5)
    # Row by row, to bound the memory.
    median = np.stack([np.median(rows, axis=0).round() for rows in zip(*frames, strict=True)]).astype(np.uint8)
    mask = static_mask(covariance, (first + change).mean(axis=-1), median)
    deviation = np.sqrt(np.maximum(covariance, 0))
    if not mask.any():
        return Overlay(mask, median, deviation)
    noise = float(np.sqrt(max(0.0, np.median((variance - covariance)[mask]))))
    level = max(1.0, float(median[mask].mean()))
    gains = tuple(round(float(np.clip(frame[mask].mean() / level, 0.5, 2)), 4) for frame in frames)
    return Overlay(mask, median, deviation, noise, gains)


def _add_change(sums: np.ndarray, change: np.ndarray) -> None:
    """Add a frame's change, its neighbours' mean, its square, and its product with the mean to ``(4, H, W, 3)``.

    Changes from the first frame are small numbers, which lose nothing in float32 (Chan et al. 1983).
    """
    width = max(3, round(len(change) * _WINDOW) | 1)
    near = cv2.blur(change, (width, width), borderType=cv2.BORDER_REFLECT_101)
    near = (near - change / width**2) * np.float32(width**2 / (width**2 - 1))  # without the pixel itself
    cv2.accumulate(change, sums[0])
    cv2.accumulate(near, sums[1])
    cv2.accumulateSquare(change, sums[2])
    cv2.accumulateProduct(change, near, sums[3])


def static_mask(covariance: np.ndarray, mean: np.ndarray, median: np.ndarray) -> np.ndarray:
    """Return the overlay's mask, ``bool (H, W)``; all False where everything changes, or nothing.

    Covariance with the neighbours, mean brightness, ``float32 (H, W)``, and median, ``uint8 (H, W, 3)``, are over time.
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
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    # A static frame around the image keeps closing and opening from eroding the regions at its border.
    mask = cv2.copyMakeBorder(static.astype(np.uint8), width, width, width, width, cv2.BORDER_CONSTANT, value=1)
    mask = cv2.morphologyEx(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, disc), cv2.MORPH_OPEN, disc)
    regions = _large_regions(mask[width:-width, width:-width], 8, at_border=True)
    filled = ~_large_regions(~regions, 4)  # small holes are such as glitter of stickers
    return cv2.medianBlur(filled.astype(np.uint8), round(min(static.shape) / 40) | 1) > 0  # replicates the border


def _large_regions(mask: np.ndarray, connectivity: int, at_border: bool = False) -> np.ndarray:
    """Return the connected regions of a mask that are not tiny, or those of them that touch the image's border."""
    _, regions, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=connectivity)
    kept = stats[:, cv2.CC_STAT_AREA] >= _SMALLEST * mask.size
    if at_border:
        start, end = stats[:, :2], stats[:, :2] + stats[:, 2:4]
        kept &= ((start == 0) | (end == mask.shape[::-1])).any(axis=1)
    kept[0] = False
    return kept[regions]


def _sky(static: np.ndarray, moving: np.ndarray, median: np.ndarray) -> np.ndarray:
    """Return the parts of ``static`` that only chance kept still: an overcast sky, bright and in the upper half.

    Where the overlay ends, the median frame shows an edge; where the sky ends at moving skylines, it shows none. Both
    kinds of rim grow into the static region until they meet at an edge.
    """
    rim, firm = _rim(static, median)
    markers = np.where(static, 0, 3).astype(np.int32)
    markers[rim] = np.where(firm, 1, 2)[rim]
    smooth = cv2.GaussianBlur(median, (0, 0), 1.5)
    _, regions = cv2.connectedComponents((cv2.watershed(smooth, markers) == 2).astype(np.uint8))
    brightness = cv2.cvtColor(smooth, cv2.COLOR_RGB2GRAY)
    light, height = np.median(brightness[moving]), np.median(np.nonzero(moving)[0])
    sky = np.zeros_like(static)
    for index in set(np.unique(regions)) - {0, *regions[-1]}:
        region = regions == index
        if np.median(brightness[region]) > light and np.median(np.nonzero(region)[0]) < height:
            sky |= region
    return sky


def _hood(quiet: np.ndarray, static: np.ndarray, median: np.ndarray) -> np.ndarray:
    """Return the parts of ``quiet`` that are a hood with reflections: thick, at the lower border, firmly edged."""
    width = round(quiet.shape[0] * 0.06) | 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    framed = cv2.copyMakeBorder((quiet & ~static).astype(np.uint8), 0, width, width, width, cv2.BORDER_REPLICATE)
    thick = cv2.morphologyEx(framed, cv2.MORPH_OPEN, disc)[:-width, width:-width]
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
