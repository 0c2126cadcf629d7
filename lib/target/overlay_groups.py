"""Groups of frames with different overlays: another hood, another mount, another car.

A group is split in two only where both parts are static on the same pixels and yet differ there, while the street moves
in both. Changing light, a waiting car or a small set of frames is no reason to split.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lib.dataset.image_files import read_image
from lib.parallel import evenly_spaced, in_threads
from lib.target.estimate_overlay import estimate_overlay
from lib.target.overlay import Overlay

_MAX_FRAMES = 256
_SMALLEST = 12  # frames of a group; fewer do not show what is static
_MOST = 8  # groups
_SIZE = (64, 36)  # (width, height) of the thumbnails that are compared
_CUT = 12.0  # 0-255; largest difference that counts
_STATIC = 2.5  # 0-255; median change up to which a thumbnail's pixel is static
_OTHER = 10.0  # 0-255; difference between two overlays that no light explains
_AREA = 0.015  # of the image, on which two overlays must differ
_HINT = 0.004  # the same for a first split, whose parts may each hold several overlays
_ALIVE = 0.4  # of the usual change in the street, which each group must show
_BLANK = 3.0  # standard deviation (0-255) within a frame below which it shows nothing
_GAINS = (0.5, 2.0)  # limits of the exposure


@dataclass(frozen=True)
class OverlayGroup:
    """Frames with one overlay.

    Attributes:
        paths: the frames.
        share: of all frames in the groups.
        overlay: their overlay.
    """

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
    one_group = [[Path(path) for path in paths]]
    if len(paths) < 2 * _SMALLEST:
        return one_group
    chosen = evenly_spaced(one_group[0], _MAX_FRAMES)
    sizes, thumbnails = zip(*in_threads(_read_thumbnail, chosen, "overlay groups"), strict=True)
    if len(set(sizes)) > 1:
        return one_group  # which estimate_overlay refuses
    frames = np.stack(thumbnails)
    done: list[np.ndarray] = []
    open_ = [np.flatnonzero(frames.std(axis=(1, 2)) >= _BLANK)]
    while open_:
        part = open_.pop()
        second = _split(frames[part]) if len(done) + len(open_) + 2 <= _MOST else None
        if second is None:
            done.append(part)
        else:
            open_ += [part[~second], part[second]]
    parts = _merge(frames, _reassign(frames, done))
    if len(parts) == 1:
        return one_group
    return [[chosen[i] for i in part] for part in sorted(parts, key=len, reverse=True)]


def match_overlay(overlays: Sequence[Overlay], frame: np.ndarray) -> int:
    """Return the index of the overlay that a frame ``uint8 (H, W, 3)`` of any size shows.

    It differs least from the frame, brightness aside, on the pixels that are in any of the overlays.
    """
    if len(overlays) == 1:
        return 0
    thumbnail = _thumbnail(frame)[None]
    masks = [
        cv2.resize(o.mask.astype(np.float32), _SIZE, interpolation=cv2.INTER_AREA).ravel() > 0.99 for o in overlays
    ]
    anywhere = np.any(masks, axis=0)
    if not anywhere.any():
        return 0
    images = [_thumbnail(overlay.image) for overlay in overlays]
    pairs = zip(images, masks, strict=True)
    return int(np.argmin([_differences(thumbnail, image, mask)[0, anywhere].mean() for image, mask in pairs]))


def _read_thumbnail(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    image = read_image(path)
    return image.shape, _thumbnail(image)


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """Return the pixels of a small copy, ``float32 (P, 3)``."""
    return cv2.resize(image, _SIZE, interpolation=cv2.INTER_AREA).reshape(-1, 3).astype(np.float32)


def _differences(frames: np.ndarray, image: np.ndarray, static: np.ndarray) -> np.ndarray:
    """Return the differences ``(F, P)`` of frames ``(F, P, 3)`` from an image ``(P, 3)``, at most ``_CUT``.

    Each frame first gets the image's brightness where ``static (P)``.
    """
    bright = static & (image.mean(axis=-1) > 12)
    gains = np.ones(len(frames), np.float32)
    if bright.sum() >= 8:
        ratios = frames[:, bright].mean(axis=-1) / image[bright].mean(axis=-1)
        gains = np.median(ratios, axis=1).clip(*_GAINS)
    return np.minimum(np.abs(frames / gains[:, None, None] - image).mean(axis=-1), _CUT)


@dataclass(frozen=True)
class _Summary:
    """Median ``image (P, 3)`` of frames, and each pixel's median ``change (P)`` from it."""

    image: np.ndarray
    change: np.ndarray

    @classmethod
    def of(cls, frames: np.ndarray) -> _Summary:
        image = np.median(frames, axis=0)
        change = np.median(np.abs(frames - image).mean(axis=-1), axis=0)
        # Once more, with the brightness of what seems static made equal.
        change = np.minimum(change, np.median(_differences(frames, image, change < 3 * _STATIC), axis=0))
        return cls(image, change)

    @property
    def static(self) -> np.ndarray:
        return self.change < _STATIC

    def distances(self, frames: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        """Return the mean difference ``(F)`` of frames on ``pixels (P)``."""
        return _differences(frames, self.image, self.change < 3 * _STATIC)[:, pixels].mean(axis=1)


def _reassign(frames: np.ndarray, parts: list[np.ndarray]) -> list[np.ndarray]:
    """Return the parts (indices of frames) with each frame in the nearest, which splits in two cannot know."""
    members = np.concatenate(parts)
    for _ in range(3):
        summaries = [_Summary.of(frames[part]) for part in parts]
        pixels = np.any([summary.static for summary in summaries], axis=0)
        if len(parts) == 1 or not pixels.any():
            break
        nearest = np.argmin([summary.distances(frames[members], pixels) for summary in summaries], axis=0)
        moved = [members[nearest == index] for index in range(len(parts))]
        if min(map(len, moved)) < _SMALLEST:
            break
        parts = moved
    return parts


def _merge(frames: np.ndarray, parts: list[np.ndarray]) -> list[np.ndarray]:
    """Return the parts, those merged that show the same overlay after all."""
    whole = _Summary.of(frames[np.concatenate(parts)])
    while len(parts) > 1:
        summaries = [_Summary.of(frames[part]) for part in parts]
        pairs = ((i, j) for i in range(len(parts)) for j in range(i))
        area, i, j = min((_differing_area(summaries[i], summaries[j], whole), i, j) for i, j in pairs)
        if area >= _AREA:
            break
        both = np.sort(np.concatenate([parts[j], parts[i]]))
        parts = [part for k, part in enumerate(parts) if k not in (i, j)] + [both]
    return parts


def _split(frames: np.ndarray) -> np.ndarray | None:
    """Return which frames ``(F, P, 3)`` may show another overlay than the rest, ``bool (F)``; None where all agree."""
    if len(frames) < 2 * _SMALLEST:
        return None
    whole, largest, best = _Summary.of(frames), _HINT, None
    for start in _starts(frames):
        second = _two_means(frames, start)
        if min(second.sum(), (~second).sum()) < _SMALLEST:
            continue
        area = _differing_area(_Summary.of(frames[~second]), _Summary.of(frames[second]), whole)
        if area > largest:
            largest, best = area, second
    return best


def _two_means(frames: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Move frames to the nearer of two groups until none moves, or a group is too small."""
    for step in range(8):
        if min(second.sum(), (~second).sum()) < _SMALLEST:
            break
        two = [_Summary.of(frames[part]) for part in (~second, second)]
        # At first all pixels count, then those that are static in one of the groups.
        pixels = two[0].static | two[1].static if step >= 3 else np.ones(frames.shape[1], bool)
        if not pixels.any():
            break
        first_distance, second_distance = (summary.distances(frames, pixels) for summary in two)
        before, second = second, second_distance < first_distance
        if step >= 4 and (second == before).all():
            break
    return second


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
        _, cut = cv2.threshold(grey, 0, 1, cv2.THRESH_OTSU)
        yield cut.ravel() > 0


def _differing_area(first: _Summary, second: _Summary, whole: _Summary) -> float:
    """Return the share of the image where two groups are static and differ; 0 where one merely waited in the street."""
    usual = np.percentile(whole.change, 75)
    if min(np.percentile(summary.change, 75) for summary in (first, second)) < _ALIVE * usual:
        return 0.0
    both = first.static & second.static
    if not both.any():
        return 0.0
    # Light explains three differences: none, the same change as in the street, and one of the exposure.
    street = [max(float(s.image[~both].mean()) if not both.all() else 1.0, 1.0) for s in (first, second)]
    one, other = first.image[both], second.image[both]
    exposure = np.clip((one * other).sum() / max((other * other).sum(), 1.0), *_GAINS)
    off = [np.abs(one - gain * other).mean(axis=-1) for gain in (1.0, street[0] / street[1], exposure)]
    return float((np.min(off, axis=0) > _OTHER).sum() / len(first.image))
