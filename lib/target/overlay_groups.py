"""Groups of frames with different overlays: another hood, another mount, another car.

A group is split only where both parts are static on the same pixels and yet differ there, while the street moves in
both. Changing light, a waiting car or a small set of frames is no reason to split.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lib.dataset.image_files import read_image
from lib.parallel import evenly_spaced, in_threads
from lib.target.estimate_overlay import BLANK, MAX_FRAMES, estimate_overlay
from lib.target.overlay import Overlay

_SMALLEST = 12  # frames of a group; fewer do not show what is static
_MOST = 8  # groups
_SIZE = (64, 36)  # (width, height) of the thumbnails that are compared
_CUT = 12.0  # 0-255; largest difference that counts
_STATIC = 2.5  # 0-255; median change up to which a thumbnail's pixel is static
_OTHER = 10.0  # 0-255; difference between two overlays that no light explains
_AREA = 0.015  # of the image, on which two overlays must differ
_HINT = 0.004  # the same for a first split, whose parts may each hold several overlays
_ALIVE = 0.4  # of the usual change in the street, which each group must show
_GAINS = (0.5, 2.0)  # limits of the exposure


@dataclass(frozen=True)
class OverlayGroup:
    """Frames with one overlay, and their ``share`` of the frames in all groups."""

    paths: tuple[Path, ...]
    share: float
    overlay: Overlay


def estimate_overlays(paths: Sequence[str | Path]) -> list[OverlayGroup]:
    """Group frames of one size by their overlay, the largest group first; mostly one group holds all frames.

    Raises:
        InputError: as :func:`lib.target.estimate_overlay.estimate_overlay`.
    """
    groups = group_frames(paths)
    total = sum(map(len, groups))
    return [OverlayGroup(tuple(group), len(group) / total, estimate_overlay(group)) for group in groups]


def group_frames(paths: Sequence[str | Path]) -> list[list[Path]]:
    """Return the frames of each group, the largest first.

    Several groups hold up to 256 frames, evenly spaced; fewer than 24 frames are one group.
    """

    def read(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
        image = read_image(path)
        return image.shape, _thumbnail(image)

    one_group = [[Path(path) for path in paths]]
    if len(paths) < 2 * _SMALLEST:
        return one_group
    chosen = evenly_spaced(one_group[0], MAX_FRAMES)
    sizes, thumbnails = zip(*in_threads(read, chosen, "overlay groups"), strict=True)
    if len(set(sizes)) > 1:
        return one_group  # which estimate_overlay refuses
    frames = np.stack(thumbnails)
    done: list[np.ndarray] = []
    open_ = [np.flatnonzero(frames.std(axis=(1, 2)) >= BLANK)]
    while open_:
        part = open_.pop()
        room = len(part) >= 2 * _SMALLEST and len(done) + len(open_) + 2 <= _MOST
        halves = _split(frames[part]) if room else []
        open_ += [part[half] for half in halves]
        if not halves:
            done.append(part)
    # Splits in two cannot know the nearest of all parts.
    for _ in range(3):
        moved = _move_to_nearest(frames, done)
        if min(map(len, moved)) < _SMALLEST:
            break
        done = moved
    parts = _merge(frames, done)
    if len(parts) == 1:
        return one_group
    return [[chosen[i] for i in part] for part in sorted(parts, key=len, reverse=True)]


def match_overlay(overlays: Sequence[Overlay], frame: np.ndarray) -> int:
    """Return the index of the overlay that differs least, brightness aside, from a frame ``uint8 (H, W, 3)``."""
    if len(overlays) == 1:
        return 0
    thumbnail = _thumbnail(frame)[None]
    shares = [cv2.resize(overlay.mask.astype(np.float32), _SIZE, interpolation=cv2.INTER_AREA) for overlay in overlays]
    masks = [share.ravel() > 0.99 for share in shares]
    anywhere = np.any(masks, axis=0)
    if not anywhere.any():
        return 0
    pairs = zip(overlays, masks, strict=True)
    differences = [_differences(thumbnail, _thumbnail(overlay.image), mask) for overlay, mask in pairs]
    return int(np.argmin([difference[0, anywhere].mean() for difference in differences]))


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """Return the pixels of a small copy, ``float32 (P, 3)``."""
    return cv2.resize(image, _SIZE, interpolation=cv2.INTER_AREA).reshape(-1, 3).astype(np.float32)


def _differences(frames: np.ndarray, image: np.ndarray, static: np.ndarray) -> np.ndarray:
    """Return the differences ``(F, P)`` of frames ``(F, P, 3)`` from ``(P, 3)``, made as bright where ``static``."""
    bright = static & (image.mean(axis=-1) > 12)
    gains = np.ones(len(frames), np.float32)
    if bright.sum() >= 8:
        ratios = frames[:, bright].mean(axis=-1) / image[bright].mean(axis=-1)
        gains = np.median(ratios, axis=1).clip(*_GAINS)
    return np.minimum(np.abs(frames / gains[:, None, None] - image).mean(axis=-1), _CUT)


class _Summary:
    """Median ``image (P, 3)`` of frames, each pixel's median ``change (P)`` from it, and which are ``static (P)``."""

    def __init__(self, frames: np.ndarray):
        self.image = np.median(frames, axis=0)
        self.change = np.median(np.abs(frames - self.image).mean(axis=-1), axis=0)
        # Once more, with the brightness of what seems static made equal.
        self.change = np.minimum(self.change, np.median(self.differences(frames), axis=0))
        self.static = self.change < _STATIC

    def differences(self, frames: np.ndarray) -> np.ndarray:
        return _differences(frames, self.image, self.change < 3 * _STATIC)


def _move_to_nearest(frames: np.ndarray, parts: list[np.ndarray], everywhere: bool = False) -> list[np.ndarray]:
    """Return the parts (indices) with each frame in the nearest, by pixels static in any part, or ``everywhere``."""
    if min(map(len, parts)) < _SMALLEST:
        return parts
    members = np.concatenate(parts)
    summaries = [_Summary(frames[part]) for part in parts]
    pixels = np.any([summary.static for summary in summaries], axis=0) | everywhere
    if not pixels.any():
        return parts
    distances = [summary.differences(frames[members])[:, pixels].mean(axis=1) for summary in summaries]
    nearest = np.argmin(distances, axis=0)
    return [members[nearest == index] for index in range(len(parts))]


def _merge(frames: np.ndarray, parts: list[np.ndarray]) -> list[np.ndarray]:
    """Return the parts, those merged that show the same overlay after all."""
    whole = _Summary(frames[np.concatenate(parts)])
    while len(parts) > 1:
        summaries = [_Summary(frames[part]) for part in parts]
        pairs = ((i, j) for i in range(len(parts)) for j in range(i))
        area, i, j = min((_differing_area(summaries[i], summaries[j], whole), i, j) for i, j in pairs)
        if area >= _AREA:
            break
        both = np.sort(np.concatenate([parts[j], parts[i]]))
        parts = [part for k, part in enumerate(parts) if k not in (i, j)] + [both]
    return parts


def _split(frames: np.ndarray) -> list[np.ndarray]:
    """Return two halves (indices) of frames ``(F, P, 3)`` that may show different overlays; none where all agree."""
    whole, largest, best = _Summary(frames), _HINT, []
    for start in _starts(frames):
        halves = [np.flatnonzero(~start), np.flatnonzero(start)]
        for step in range(8):
            # At first all pixels count, then those that are static in one of the halves.
            halves = _move_to_nearest(frames, halves, everywhere=step < 3)
        if min(map(len, halves)) < _SMALLEST:
            continue
        first, second = (_Summary(frames[half]) for half in halves)
        area = _differing_area(first, second, whole)
        if area > largest:
            largest, best = area, [np.sort(half) for half in halves]
    return best


def _starts(frames: np.ndarray) -> Iterator[np.ndarray]:
    """Yield splits ``bool (F)`` to start from: the later half, and those of the four main components."""
    count = len(frames)
    yield np.arange(count) >= count // 2
    level = frames.mean(axis=-1)
    level = level / np.maximum(level.mean(axis=1, keepdims=True), 1)  # without the light
    # Every pixel has the same weight, however much it varies.
    level = (level - level.mean(axis=0)) / np.maximum(level.std(axis=0), 1e-3)
    _, vectors = np.linalg.eigh(level @ level.T)
    for vector in vectors.T[:-5:-1]:
        grey = cv2.normalize(vector, np.empty_like(vector), 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
        yield cv2.threshold(grey, 0, 1, cv2.THRESH_OTSU)[1].ravel() > 0


def _differing_area(first: _Summary, second: _Summary, whole: _Summary) -> float:
    """Return the share of the image where two groups are static and differ; 0 where one merely waited in the street."""
    changes = [np.percentile(summary.change, 75) for summary in (first, second, whole)]
    both = first.static & second.static
    if min(changes[:2]) < _ALIVE * changes[2] or not both.any():
        return 0.0
    # Light explains three differences: none, the same change as in the street, and one of the exposure.
    street = [max(float(s.image[~both].mean()) if not both.all() else 1.0, 1.0) for s in (first, second)]
    one, other = first.image[both], second.image[both]
    exposure = np.clip((one * other).sum() / max((other * other).sum(), 1.0), *_GAINS)
    off = [np.abs(one - gain * other).mean(axis=-1) for gain in (1.0, street[0] / street[1], exposure)]
    return float((np.min(off, axis=0) > _OTHER).sum() / len(first.image))
