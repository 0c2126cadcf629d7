"""Target frames that do not all show the same surroundings: another hood, another mount, another car.

Frames are put into groups that share what stays still, and each group gets a
:class:`~lib.target.overlay.Overlay` of its own. A group is split in two only where both halves stand still on the same pixels and yet show different things
there, while the street moves in both: changing light, a car that waits or a set of few frames is no reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lib.dataset.image_files import read_image
from lib.parallel import in_threads
from lib.target import overlay
from lib.target.overlay import Overlay

_MAX_FRAMES = 256  # that are looked at
_SMALLEST = 12  # frames of a group: fewer do not tell what stands still
_MOST = 8  # groups
_THUMB = (64, 36)
_CUT = 12.0  # 0-255; two values farther apart differ, no matter how far
_STILL = 2.5  # 0-255; median change up to which a pixel of a small copy stands still
_OTHER = 10.0  # 0-255; difference between two groups' surroundings that no light explains
_AREA = 0.015  # of the image on which two groups' surroundings must differ
_HINT = 0.004  # the same of a first try, whose halves may hold several kinds each
_ALIVE = 0.4  # of the usual change in the street, which each group must show
_GAINS = (0.5, 2.0)  # of exposure


@dataclass(frozen=True)
class OverlayGroup:
    """Frames that share their surroundings.

    Attributes:
        paths: the frames.
        share: of all frames that were looked at.
        overlay: their overlay.
    """

    paths: tuple[Path, ...]
    share: float
    overlay: Overlay


def estimate_overlays(paths: Sequence[str | Path]) -> list[OverlayGroup]:
    """Groups of frames of one size by their surroundings, the largest first; mostly there is one, of all ``paths``.

    Looks at up to 256 frames, evenly spread, and keeps small copies of them. Groups are looked for from 24 frames on.

    Raises:
        InputError: as :func:`lib.target.overlay.estimate_overlay`.
    """
    parts = group_frames(paths)
    total = sum(map(len, parts))
    return [OverlayGroup(tuple(map(Path, part)), len(part) / total, overlay.estimate_overlay(part)) for part in parts]


def group_frames(paths: Sequence[str | Path]) -> list[list[Path]]:
    """The frames of each group, the largest first; where there are several, of the frames that were looked at."""
    everything = [[Path(path) for path in paths]]
    if len(paths) < 2 * _SMALLEST:
        return everything
    chosen = [Path(paths[i]) for i in np.unique(np.linspace(0, len(paths) - 1, _MAX_FRAMES).round().astype(int))]
    found = in_threads(_small, chosen, "surroundings")
    if len({size for size, _ in found}) > 1:
        return everything  # which `background.mine` will not take
    frames = np.stack([small for _, small in found])
    seen = np.flatnonzero(frames.std(axis=(1, 2)) >= 3.0)  # the others show nothing
    done, open_ = [], [seen]
    while open_:
        part = open_.pop()
        second = _split(frames[part]) if len(done) + len(open_) + 2 <= _MOST else None
        if second is None:
            done.append(part)
        else:
            open_ += [part[~second], part[second]]
    parts = _joined(frames, _settled(frames, done))
    if len(parts) == 1:
        return everything
    return [[chosen[i] for i in part] for part in sorted(parts, key=len, reverse=True)]


def _settled(frames: np.ndarray, parts: list[np.ndarray]) -> list[np.ndarray]:
    """The parts (indices of frames) after each frame went where it fits best, which a split in two cannot know."""
    members = np.concatenate(parts)
    for _ in range(3):
        kinds = [_Still.of(frames[part]) for part in parts]
        counts = np.any([kind.still for kind in kinds], axis=0)
        if len(parts) == 1 or not counts.any():
            break
        nearest = np.argmin([kind.far(frames[members])[:, counts].mean(axis=1) for kind in kinds], axis=0)
        moved = [members[nearest == number] for number in range(len(parts))]
        if min(map(len, moved)) < _SMALLEST:
            break
        parts = moved
    return parts


def _joined(frames: np.ndarray, parts: list[np.ndarray]) -> list[np.ndarray]:
    """The parts, those joined that show the same surroundings after all."""
    whole = _Still.of(frames[np.concatenate(parts)])
    while len(parts) > 1:
        kinds = [_Still.of(frames[part]) for part in parts]
        pairs = [(_other(kinds[i], kinds[j], whole), i, j) for i in range(len(parts)) for j in range(i)]
        area, i, j = min(pairs)
        if area >= _AREA:
            break
        both = np.sort(np.concatenate([parts[j], parts[i]]))
        parts = [part for k, part in enumerate(parts) if k not in (i, j)] + [both]
    return parts


def match_overlay(backgrounds: Sequence[Overlay], frame: np.ndarray) -> int:
    """Index of the background that a frame ``uint8 (H, W, 3)`` of any size shows: the one with the least difference.

    Compared are the pixels that are static in one of them, brightness aside.
    """
    if len(backgrounds) == 1:
        return 0
    small = _shrink(frame)[None]
    plates = np.stack([_shrink(one.image) for one in backgrounds])
    masks = np.stack(
        [cv2.resize(one.mask.astype(np.float32), _THUMB, interpolation=cv2.INTER_AREA) > 0.99 for one in backgrounds]
    ).reshape(len(backgrounds), -1)
    anywhere = masks.any(axis=0)
    return int(
        np.argmin(
            [
                _differences(small, plate, mask)[0, anywhere].mean() if anywhere.any() else 0.0
                for plate, mask in zip(plates, masks, strict=True)
            ]
        )
    )


def _small(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    image = read_image(path)
    return image.shape, _shrink(image)


def _shrink(image: np.ndarray) -> np.ndarray:
    """``float32 (pixels, 3)``."""
    return cv2.resize(image, _THUMB, interpolation=cv2.INTER_AREA).reshape(-1, 3).astype(np.float32)


def _differences(frames: np.ndarray, plate: np.ndarray, still: np.ndarray) -> np.ndarray:
    """How far frames ``(F, P, 3)`` are from a plate ``(P, 3)``, ``(F, P)``, at most ``_CUT``.

    Each frame is first given the brightness that the plate has where it stands ``still (P)``.
    """
    bright = still & (plate.mean(axis=-1) > 12)
    gains = np.ones(len(frames), np.float32)
    if bright.sum() >= 8:
        ratios = frames[:, bright].mean(axis=-1) / plate[bright].mean(axis=-1)
        gains = np.median(ratios, axis=1).clip(*_GAINS)
    return np.minimum(np.abs(frames / gains[:, None, None] - plate).mean(axis=-1), _CUT)


@dataclass(frozen=True)
class _Still:
    """What frames have in common: median ``plate (P, 3)`` and each pixel's median ``change (P)`` from it."""

    image: np.ndarray
    change: np.ndarray

    @classmethod
    def of(cls, frames: np.ndarray) -> _Still:
        plate = np.median(frames, axis=0)
        change = np.median(np.abs(frames - plate).mean(axis=-1), axis=0)
        # Once more, with the brightness evened out by what seems to stand still.
        change = np.minimum(change, np.median(_differences(frames, plate, change < 3 * _STILL), axis=0))
        return cls(plate, change)

    @property
    def still(self) -> np.ndarray:
        return self.change < _STILL

    def far(self, frames: np.ndarray) -> np.ndarray:
        return _differences(frames, self.image, self.change < 3 * _STILL)


def _split(frames: np.ndarray) -> np.ndarray | None:
    """``bool (F)``: the frames ``(F, P, 3)`` that may show other surroundings than the rest; None where all agree."""
    if len(frames) < 2 * _SMALLEST:
        return None
    whole, best = _Still.of(frames), (_HINT, None)
    for second in _starts(frames):
        for step in range(8):
            if min(second.sum(), (~second).sum()) < _SMALLEST:
                break
            two = [_Still.of(frames[part]) for part in (~second, second)]
            # At first everything counts, then what stands still in one of them.
            counts = two[0].still | two[1].still if step >= 3 else np.ones(frames.shape[1], bool)
            if not counts.any():
                break
            first_far, second_far = (one.far(frames)[:, counts].mean(axis=1) for one in two)
            before, second = second, second_far < first_far
            if step >= 4 and (second == before).all():
                break
        if min(second.sum(), (~second).sum()) < _SMALLEST:
            continue
        area = _other(*(_Still.of(frames[part]) for part in (~second, second)), whole)
        if area > best[0]:
            best = area, second
    return best[1]


def _starts(frames: np.ndarray):
    """Divisions ``bool (F)`` to start from: the second half of the time, and either side of what varies most."""
    count = len(frames)
    yield np.arange(count) >= count // 2
    level = frames.mean(axis=-1)
    level = level / np.maximum(level.mean(axis=1, keepdims=True), 1)  # the light aside
    # Every pixel has the same say, however much it varies.
    level = (level - level.mean(axis=0)) / np.maximum(level.std(axis=0), 1e-3)
    _, vectors = np.linalg.eigh(level @ level.T)
    for vector in vectors.T[:-5:-1]:
        grey = cv2.normalize(vector, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
        _, cut = cv2.threshold(grey, 0, 1, cv2.THRESH_OTSU)
        yield cut.ravel() > 0


def _other(first: _Still, second: _Still, whole: _Still) -> float:
    """Share of the image on which two groups stand still and differ; 0 where one of them merely stood in the street."""
    usual = np.percentile(whole.change, 75)
    if min(np.percentile(one.change, 75) for one in (first, second)) < _ALIVE * usual:
        return 0.0
    both = first.still & second.still
    if not both.any():
        return 0.0
    # What light explains: none at all, the same change as in the street, or one of the exposure's kind.
    street = [max(float(one.image[~both].mean()) if not both.all() else 1.0, 1.0) for one in (first, second)]
    one, other = first.image[both], second.image[both]
    exposure = np.clip((one * other).sum() / max((other * other).sum(), 1.0), *_GAINS)
    off = [np.abs(one - gain * other).mean(axis=-1) for gain in (1.0, street[0] / street[1], exposure)]
    return float((np.min(off, axis=0) > _OTHER).sum() / len(first.image))
