"""The target camera's static surroundings, found from its own unlabelled frames.

Car hood and lens circle stay where they are while the street moves: over many frames their brightness hardly
varies. What varies little, is connected to the image border and forms a compact region is background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from lib.classes import BACKGROUND
from lib.dataset import read_image
from lib.runs import InputError

_PLATE_FRAMES = 32
_MAX_FRAMES = 256
_SMALLEST = 0.002  # of the image: a static patch below this is a coincidence of the street
_SEPARATION = 3.0  # moving pixels vary at least this many times more than static ones
_CUT = 0.3  # of the way from the static to the moving pixels' level


@dataclass(frozen=True)
class Background:
    """Static surroundings of a camera.

    Attributes:
        mask: ``bool (H, W)``, True where static.
        plate: ``uint8 (H, W, 3)`` RGB, what the camera shows there (median frame; meaningless elsewhere).
        deviation: ``float32 (H, W)``, brightness deviation over the frames (0-255 scale), to look at.
    """

    mask: np.ndarray
    plate: np.ndarray
    deviation: np.ndarray

    def paste(self, image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Copies of ``uint8 (H, W, 3)`` image and ``uint8 (H, W)`` label with the surroundings over them."""
        image, label = image.copy(), label.copy()
        image[self.mask] = self.plate[self.mask]
        label[self.mask] = BACKGROUND
        return image, label


def mine(paths: Sequence[str | Path]) -> Background:
    """Find the static surroundings in frames of one camera.

    Looks at up to 256 frames, evenly spread; memory holds 32 of them for the plate.

    Args:
        paths: image files of equal size, at least 2; more and more varied frames give a cleaner mask.

    Raises:
        InputError: fewer than two frames, or frames of different sizes.
    """
    if len(paths) < 2:
        raise InputError(f"background: {len(paths)} target frame(s), at least 2 are needed to see what stays still.")
    chosen = [Path(paths[i]) for i in _spread(len(paths), _MAX_FRAMES)]
    keep = set(_spread(len(chosen), _PLATE_FRAMES))
    total = squares = None
    frames = []
    for i, path in enumerate(tqdm(chosen, desc="background", unit="frame", mininterval=1)):
        image = read_image(path)
        if total is None:
            total = np.zeros(image.shape[:2])
            squares = np.zeros(image.shape[:2])
            size = image.shape
        if image.shape != size:
            raise InputError(
                f"{path}: {image.shape[1]}x{image.shape[0]} px, but {chosen[0]} has {size[1]}x{size[0]}. "
                "The target frames must come from one camera at one size."
            )
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)
        total += grey
        squares += grey * grey
        if i in keep:
            frames.append(image)
    n = len(chosen)
    deviation = np.sqrt(np.maximum(squares / n - (total / n) ** 2, 0)).astype(np.float32)
    return Background(static_mask(deviation), _median(frames), deviation)


def static_mask(deviation: np.ndarray) -> np.ndarray:
    """Threshold a ``float32 (H, W)`` deviation map into the ``bool (H, W)`` mask of static surroundings.

    Otsu's threshold on the logarithm tells static from moving; the cut then lies nearer to the static ones, since
    the lens's vignette dims the street before it hides it. All False where the two do not differ clearly.
    """
    level = np.log(np.maximum(cv2.medianBlur(deviation, 3), 0.5))  # the blur calms pixels and keeps the edge
    scaled = np.clip(level * 40 + 32, 0, 255).astype(np.uint8)
    threshold, _ = cv2.threshold(scaled, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    static = scaled <= threshold
    if static.all():
        return np.zeros(deviation.shape, dtype=bool)
    still, moving = np.median(level[static]), np.median(level[~static])
    if moving - still < np.log(_SEPARATION):
        return np.zeros(deviation.shape, dtype=bool)
    static = level <= still + _CUT * (moving - still)
    width = max(3, round(min(deviation.shape) / 90) | 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    # Frame the map as static, so that closing and opening do not eat the border that the region leans on.
    mask = cv2.copyMakeBorder(static.astype(np.uint8), width, width, width, width, cv2.BORDER_CONSTANT, value=1)
    mask = cv2.morphologyEx(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, disc), cv2.MORPH_OPEN, disc)
    mask = mask[width:-width, width:-width]
    return _fill_holes(_at_border(mask))


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
