"""The target camera's static surroundings, found from its own unlabelled frames.

Where the street shows, a pixel changes from frame to frame together with the pixels around it; in the surroundings
only noise changes, and every pixel's noise is its own. So the covariance over time of a pixel and the mean of its
neighbours tells the two apart: it is nil in the surroundings whatever the noise, and falls with the share of the
street's light that gets through in the lens's vignette. Frames are read once and not kept, but for a few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from lib.dataset.classes import BACKGROUND
from lib.dataset.image_files import read_image
from lib.errors import InputError
from lib.target import appearance

_PLATE_FRAMES = 32
_MAX_FRAMES = 256
_WINDOW = 1 / 18  # of the height: neighbours whose mean a pixel is compared with
_SEEN = 0.03  # of the street's usual deviation: below, nothing of the street can be made out
_JUMP = 0.4  # of the deviation three pixels on: below, a pixel lies on the still side of a sharp edge
_STREET = 0.3  # of the street's usual deviation: what three pixels behind a sharp edge must show
_SURE = 5.0  # standard deviations of the covariance from which it is no coincidence
_BLANK = 3.0  # standard deviation (0-255) within a frame below which it shows nothing
_SMALLEST = 0.002  # of the image: a static patch below this is a coincidence of the street
_FLICKER = 0.12  # of the street's usual relative deviation: up to here, it is the exposure that changes
_DARK = 5.0  # of 255, added to a brightness that deviations are related to: near black all are large
_QUIET = 0.5  # of the street's usual relative deviation: up to here, it may be reflections on the hood
_EDGE = 0.08  # of the brightness: change across an edge that stays where it is


@dataclass(frozen=True)
class Overlay:
    """Static surroundings of a camera.

    Attributes:
        mask: ``bool (H, W)``, True where static.
        image: ``uint8 (H, W, 3)`` RGB, what the camera shows there (median frame; meaningless elsewhere).
        deviation: ``float32 (H, W)``, how much of what the neighbours share changes over the frames, as a standard
            deviation (0-255 scale), to look at.
        noise: standard deviation (0-255) of a pixel's own change in the surroundings, the sensor's noise.
        gains: brightness of the surroundings in single frames, relative to the plate.
    """

    mask: np.ndarray
    image: np.ndarray
    deviation: np.ndarray
    noise: float = 0.0
    gains: tuple[float, ...] = (1.0,)

    def scaled(self, size: tuple[int, int]) -> Overlay:
        """The same surroundings in images of (width, height)."""
        mask = cv2.resize(self.mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT) > 0
        plate, deviation = (cv2.resize(a, size, interpolation=cv2.INTER_AREA) for a in (self.image, self.deviation))
        # Shrinking averages the noise of neighbours.
        noise = self.noise * min(1.0, (size[0] * size[1] / self.mask.size) ** 0.5)
        return replace(self, mask=mask, image=plate, deviation=deviation, noise=noise)

    def paste(
        self,
        image: np.ndarray,
        label: np.ndarray,
        rng: np.random.Generator | None = None,
        region: tuple[int, int, int, int] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Copies of ``uint8 (H, W, 3)`` image and ``uint8 (H, W)`` label with the surroundings over them.

        The image's edge between them is soft over two pixels to either side, the label's is hard. With ``rng`` the
        surroundings take the brightness of a random frame and fresh noise; without, they are the plate. ``region``
        (x, y, width, height) is the part of the whole that image and label show.
        """
        x, y, width, height = region or (0, 0, *self.mask.shape[::-1])
        view = slice(y, y + height), slice(x, x + width)
        layer = self._layer
        colour, solid, covered = layer.colour[view], layer.solid[view], layer.covered[view]
        columns, rows = layer.edge
        here = (columns >= x) & (columns < x + width) & (rows >= y) & (rows < y + height)
        columns, rows, opacity = columns[here] - x, rows[here] - y, layer.opacity[here]
        image, label = image.copy(), cv2.copyTo(np.full_like(label, BACKGROUND), covered, label.copy())
        below = image[rows, columns]
        left, top, across, down = cv2.boundingRect(layer.touched[view])
        if not across:
            return image, label
        box = slice(top, top + down), slice(left, left + across)
        colour = colour[box]
        if rng is not None:
            colour = cv2.convertScaleAbs(colour, alpha=float(rng.choice(self.gains)))
            colour = appearance.add_noise(colour, self.noise, float(rng.random()))
        cv2.copyTo(colour, solid[box], image[box])
        mixed = below + opacity * (colour[rows - top, columns - left].astype(np.float32) - below)
        image[rows, columns] = (mixed + np.float32(0.5)).astype(np.uint8)
        return image, label

    @cached_property
    def _layer(self) -> _Layer:
        solid = self.mask.astype(np.float32)
        opacity = cv2.GaussianBlur(solid, (5, 5), 0.8, borderType=cv2.BORDER_REPLICATE)
        # Just outside the mask the plate is street: the colour there comes from inside.
        inner = cv2.GaussianBlur(self.image * solid[..., None], (5, 5), 0.8, borderType=cv2.BORDER_REPLICATE)
        inner = (inner / np.maximum(opacity, 1e-6)[..., None]).clip(0, 255).astype(np.uint8)
        rows, columns = np.nonzero((opacity > 1e-3) & (opacity < 0.999))
        colour = np.where(self.mask[..., None], self.image, inner)
        solid = (opacity >= 0.999).astype(np.uint8)
        touched = (opacity > 1e-3).astype(np.uint8)
        return _Layer(colour, solid, touched, self.mask.astype(np.uint8), (columns, rows), opacity[rows, columns, None])


@dataclass(frozen=True)
class _Layer:
    """What a paste lays over an image: ``colour (H, W, 3)`` where ``solid (H, W)``, and mixed in by ``opacity (N, 1)``
    at ``edge`` (columns, rows), both together ``touched (H, W)``; and where the label changes, ``covered (H, W)``.
    """

    colour: np.ndarray
    solid: np.ndarray
    touched: np.ndarray
    covered: np.ndarray
    edge: tuple[np.ndarray, np.ndarray]
    opacity: np.ndarray


def estimate_overlay(paths: Sequence[str | Path]) -> Overlay:
    """Find the static surroundings in frames of one camera.

    Looks at up to 256 frames, evenly spread; memory holds 32 of them for the plate, however many there are. Frames
    that show nothing (black, one colour) are left out.

    Args:
        paths: image files of equal size, at least 2; more and more varied frames give a cleaner mask.

    Raises:
        InputError: fewer than two frames that show anything, or frames of different sizes.
    """
    if len(paths) < 2:
        raise InputError(f"background: {len(paths)} target frame(s), at least 2 are needed to see what stays still.")
    chosen = [Path(paths[i]) for i in _spread(len(paths), _MAX_FRAMES)]
    keep, frames, changes, size = set(_spread(len(chosen), _PLATE_FRAMES)), [], None, None
    for i, path in enumerate(tqdm(chosen, desc="background", unit="frame", mininterval=1)):
        image = read_image(path)
        size = size or image.shape
        if image.shape != size:
            raise InputError(
                f"{path}: {image.shape[1]}x{image.shape[0]} px, but {chosen[0]} has {size[1]}x{size[0]}. "
                "The target frames must come from one camera at one size."
            )
        if image.std() < _BLANK:
            continue
        changes = changes or _Changes(image)
        changes.add(image)
        if i in keep or len(frames) < 2:
            frames.append(image)
    if changes is None or changes.count < 2:
        raise InputError(
            f"background: {changes.count if changes else 0} of {len(chosen)} target frames show anything (the others "
            "are of one colour), at least 2 are needed to see what stays still."
        )
    covariance, variance, mean = changes.result()
    plate = _median(frames)
    mask = static_mask(covariance, mean, plate)
    deviation = np.sqrt(np.maximum(covariance, 0))
    if not mask.any():
        return Overlay(mask, plate, deviation)
    noise = float(np.sqrt(max(0.0, np.median((variance - covariance)[mask]))))
    level = max(1.0, float(plate[mask].mean()))
    gains = tuple(round(float(np.clip(frame[mask].mean() / level, 0.5, 2)), 4) for frame in frames)
    return Overlay(mask, plate, deviation, noise, gains)


class _Changes:
    """Running sums over frames of each pixel, of its neighbours' mean, and of their products.

    All are of the difference to the first frame: small numbers lose nothing in float32 (Chan et al., "Algorithms for
    computing the sample variance", The American Statistician 1983).
    """

    def __init__(self, first: np.ndarray):
        self.first, self.count = first.astype(np.float32), 0
        self.own, self.near, self.squares, self.products = (np.zeros_like(self.first) for _ in range(4))
        self.width = max(3, round(first.shape[0] * _WINDOW) | 1)

    def add(self, frame: np.ndarray) -> None:
        own = frame - self.first
        near, n = cv2.blur(own, (self.width, self.width), borderType=cv2.BORDER_REFLECT_101), self.width**2
        near = (near - own / n) * np.float32(n / (n - 1))  # without the pixel itself
        cv2.accumulate(own, self.own)
        cv2.accumulate(near, self.near)
        cv2.accumulateSquare(own, self.squares)
        cv2.accumulateProduct(own, near, self.products)
        self.count += 1

    def result(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Covariance with the neighbours, variance (means of the channels) and mean, ``float32 (H, W)``."""
        n = self.count
        own, near = self.own / n, self.near / n
        covariance = (self.products / n - own * near).mean(axis=-1) * (n / (n - 1))
        variance = (self.squares / n - own * own).mean(axis=-1) * (n / (n - 1))
        # The median keeps edges where they are.
        return cv2.medianBlur(covariance, 5), cv2.medianBlur(variance, 5), (self.first + own).mean(axis=-1)


def static_mask(covariance: np.ndarray, mean: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """The ``bool (H, W)`` mask of static surroundings.

    Args:
        covariance: ``float32 (H, W)`` of each pixel with its neighbours, over time.
        mean: ``float32 (H, W)`` brightness over time.
        image: ``uint8 (H, W, 3)`` median frame.

    Returns:
        All False where everything moves, or nothing.
    """
    below = covariance[covariance < 0]  # half of what only noise moves
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
    static &= ~_sky(static, moving, plate)
    quiet = _clean(static | (relative < _QUIET))
    return _clean(static | _hood(quiet, static, plate))


def _clean(static: np.ndarray) -> np.ndarray:
    """Without specks, bites and frayed edges, and only what leans on the image's border."""
    width = max(3, round(min(static.shape) / 90) | 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    # Frame the map as static, so that closing and opening do not eat the border that the region leans on.
    mask = cv2.copyMakeBorder(static.astype(np.uint8), width, width, width, width, cv2.BORDER_CONSTANT, value=1)
    mask = cv2.morphologyEx(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, disc), cv2.MORPH_OPEN, disc)
    mask = _fill_holes(_at_border(mask[width:-width, width:-width])).astype(np.uint8)
    return cv2.medianBlur(mask, round(min(static.shape) / 40) | 1) > 0  # repeats the border by itself


def _sky(static: np.ndarray, moving: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """Parts of ``static`` that only chance kept still, such as an overcast sky.

    Where surroundings end, the plate shows an edge; where the sky ends at skylines that move, it shows none. Both
    kinds of rim grow into the static region until they meet at an edge of the plate. A sky is brighter than the view
    and in its upper half; whatever else has a faint rim is spared.
    """
    rim, firm = _rim(static, plate)
    if not (rim & ~firm).any():
        return np.zeros_like(static)
    markers = np.where(static, 0, 3).astype(np.int32)
    markers[rim] = np.where(firm, 1, 2)[rim]
    smooth = cv2.GaussianBlur(plate, (0, 0), 1.5)
    _, parts = cv2.connectedComponents((cv2.watershed(smooth, markers) == 2).astype(np.uint8))
    brightness = cv2.cvtColor(smooth, cv2.COLOR_RGB2GRAY)
    light, height = np.median(brightness[moving]), np.median(np.nonzero(moving)[0])
    found = np.zeros_like(static)
    for part in set(np.unique(parts)) - {0, *parts[-1]}:
        here = parts == part
        if np.median(brightness[here]) > light and np.median(np.nonzero(here)[0]) < height:
            found |= here
    return found


def _hood(quiet: np.ndarray, static: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """Parts of ``quiet`` that are a hood with reflections: thick, on the image's lower border, and firmly edged."""
    width = round(quiet.shape[0] * 0.06) | 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    framed = cv2.copyMakeBorder((quiet & ~static).astype(np.uint8), 0, width, width, width, cv2.BORDER_REPLICATE)
    thick = cv2.morphologyEx(framed, cv2.MORPH_OPEN, disc)[:-width, width:-width]
    _, parts = cv2.connectedComponents(thick)
    found = np.zeros_like(static)
    for part in set(parts[-1]) - {0}:
        rim, firm = _rim(static | (parts == part), plate)
        rim &= parts == part
        if rim.any() and firm[rim].mean() > 0.5:
            found |= parts == part
    return found


def _rim(mask: np.ndarray, plate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where ``mask`` ends towards the view, and where the plate shows an edge, ``bool (H, W)`` each."""
    rim = mask & (cv2.dilate((~mask).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
    width = round(mask.shape[0] / 30) | 1
    brightness = cv2.GaussianBlur(cv2.cvtColor(plate, cv2.COLOR_RGB2GRAY), (0, 0), 1).astype(np.float32)
    high, low = cv2.dilate(brightness, np.ones((width, width))), cv2.erode(brightness, np.ones((width, width)))
    return rim, high - low > _EDGE * high + 1.5


def _at_border(mask: np.ndarray) -> np.ndarray:
    """The components of ``uint8`` mask that touch the image border and are not tiny."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    edge = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    smallest = _SMALLEST * mask.size
    good = [i for i in edge if i != 0 and stats[i, cv2.CC_STAT_AREA] >= smallest]
    return np.isin(parts, good)


def _fill_holes(mask: np.ndarray) -> np.ndarray:
    """Also True: specks of the view enclosed by the surroundings (stickers' glitter, reflections)."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    small = [i for i in range(1, len(stats)) if stats[i, cv2.CC_STAT_AREA] < _SMALLEST * mask.size]
    return mask | np.isin(parts, small)


def _median(frames: list[np.ndarray]) -> np.ndarray:
    """Pixel-wise median of equal images, row band by row band to bound the memory."""
    bands = np.array_split(np.arange(frames[0].shape[0]), max(1, frames[0].shape[0] // 64))
    rows = [np.median([f[band[0] : band[-1] + 1] for f in frames], axis=0) for band in bands]
    return np.concatenate(rows).round().astype(np.uint8)


def _spread(count: int, most: int) -> list[int]:
    """Indices of at most ``most`` of ``count`` things, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()
