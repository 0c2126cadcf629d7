"""What can be done at test time for images of a known camera, without labels: rectified views, the static surroundings,
tiny islands, statistics inside the network. Each part stands alone; :mod:`lib.stages.infer` puts them together.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from lib.camera.models import Camera, Pinhole
from lib.camera.remap import Remap, build_table, covered, remap_from_table, rotation
from lib.dataset.classes import (
    BACKGROUND,
    CAR,
    CONSTRUCTION,
    FENCE,
    NATURE,
    PERSON,
    POLE,
    RIDER,
    ROAD,
    SIDEWALK,
    SKY,
    TRAFFIC_LIGHT,
    TRAFFIC_SIGN,
)
from lib.errors import InputError
from lib.synthesis.target_camera import TargetCamera

FIELD = (1.4, 1.75)
"""Least and largest horizontal field (rad) of a rectified view; beyond, a pinhole stretches its sides too much."""
UP_DOWN = 0.7
"""Largest angle (rad) that a rectified view reaches above and below the axis."""

ISLANDS = {
    ROAD: 250,
    SIDEWALK: 150,
    CONSTRUCTION: 200,
    FENCE: 150,
    POLE: 30,
    TRAFFIC_LIGHT: 15,
    TRAFFIC_SIGN: 15,
    NATURE: 200,
    SKY: 100,
    PERSON: 20,
    RIDER: 20,
    CAR: 50,
}
"""Smallest area of a region of each class, in millionths of the image."""

_ROUNDS = 3  # batch norms follow one another: a later one's input changes with the earlier one
_TINY = 1e-6  # of a variance


def known_target(out: str | Path) -> TargetCamera:
    """The target camera as stage 01 left it in ``out/augmented``.

    Raises:
        InputError: the run's images were not made to look like the target's.
    """
    folder = Path(out) / "augmented"
    if not (folder / "camera.yaml").is_file():
        raise InputError(
            f"{folder / 'camera.yaml'} does not exist (needed for views and background). Run 01_augment with "
            "augment=True for this run folder first."
        )
    return TargetCamera.read(folder)


# Rectified views


@dataclass(frozen=True, eq=False)
class View:
    """A virtual pinhole camera behind the lens.

    Attributes:
        there: reads the view from the lens's image.
        back: view pixel of each of the lens's pixels, ``float32 (H, W, 2)``; NaN where the view does not reach.
        weight: ``float32 (H, W)``, 1 in the view's middle, falling to 0 at its border and beyond.
    """

    there: Remap
    back: np.ndarray
    weight: np.ndarray

    def to_lens_image(self, probabilities):
        """``(N, classes, h, w)`` over the view to ``(N, classes, H, W)`` over the lens's image, times the weight."""
        import torch
        import torch.nn.functional as F

        height, width = probabilities.shape[2:]
        grid = np.nan_to_num(self.back) * (2 / np.array([width - 1, height - 1])) - 1
        grid = torch.from_numpy(np.float32(grid)).to(probabilities.device).expand(len(probabilities), -1, -1, -1)
        found = F.grid_sample(probabilities, grid, padding_mode="border", align_corners=True)
        return found * torch.from_numpy(self.weight).to(found)


@lru_cache(maxsize=8)
def rectified_views(lens: Camera, count: int, limits: tuple[float, float, float, float]) -> tuple[View, ...]:
    """Virtual pinhole cameras that share out, side by side, what a lens sees.

    Args:
        lens: of the images.
        count: of views, 1 or more.
        limits: what the lens sees of the street to the left, right, top and bottom (rad); see :func:`street`.

    Returns:
        Views with about the lens's central resolution.
    """
    left, right, top, bottom = limits
    field = float(np.clip(1.25 * (left + right) / count, *FIELD))
    spread = max(0.0, left + right - field)  # between the outer views' axes
    yaws = np.linspace(-spread / 2, spread / 2, count) + (right - left) / 2
    pixels = lens.project([[0, 0, 1.0], [0, 1e-3, 1.0]])
    focal = float(np.hypot(*(pixels[1] - pixels[0]))) / 1e-3
    up, down = (np.tan(min(angle, UP_DOWN)) for angle in (top, bottom))
    width, height = max(2, round(2 * focal * np.tan(field / 2))), max(2, round(focal * (up + down)))
    camera = Pinhole(width, height, focal, focal, (width - 1) / 2, focal * up - 0.5)
    return tuple(_view(lens, camera, rotation(yaw=yaw)) for yaw in yaws)


def _view(lens: Camera, camera: Pinhole, turn: np.ndarray) -> View:
    there = remap_from_table(build_table(camera, lens, turn), (lens.width, lens.height))
    back = build_table(lens, camera, turn.T)
    # From the border inwards, in shares of the way to the middle, so that views pass into one another.
    size = np.array([camera.width, camera.height])
    inside = np.minimum(back + 0.5, size - 0.5 - back) / (size / 2)
    return View(there, back, np.where(covered(back), np.float32(inside.min(axis=-1)).clip(0, 1), np.float32(0)))


def street(target: TargetCamera) -> tuple[float, float, float, float]:
    """Angles to the axis (rad) at which the lens's view of the street ends: to the left, right, top and bottom."""
    lens, seen = target.lens.scaled(target.size), ~target.overlay.mask
    row = int(np.clip(round(lens.cy), 0, lens.height - 1))
    column = int(np.clip(round(lens.cx), 0, lens.width - 1))
    across, along = (
        np.flatnonzero(line)[[0, -1]] if line.any() else (0, len(line) - 1) for line in (seen[row], seen[:, column])
    )
    ends = [(across[0], row), (across[1], row), (column, along[0]), (column, along[1])]
    rays = lens.unproject(np.array(ends, dtype=float))
    angles = np.arctan2(np.hypot(rays[:, 0], rays[:, 1]), rays[:, 2])
    return tuple(float(a) for a in np.nan_to_num(angles, nan=FIELD[0] / 2))


# Labels


def overlay_mask(target: TargetCamera, image: np.ndarray) -> np.ndarray:
    """``bool (H, W)``: where an image of the target camera shows the camera's static surroundings."""
    shown = target.match_overlay(image)
    return shown.mask if shown.mask.shape == image.shape[:2] else shown.scaled(image.shape[1::-1]).mask


def decide(probabilities, background: np.ndarray | None = None) -> np.ndarray:
    """The most probable class of every pixel.

    Args:
        probabilities: tensor ``(classes, H, W)``.
        background: ``bool (H, W)``, where the static surroundings are, if known: Background there, and there alone.

    Returns:
        ``uint8 (H, W)`` class ids.
    """
    if background is not None:
        probabilities = probabilities[:BACKGROUND]
    # On a CPU, `max` finds the same as `argmax` in a quarter of the time.
    label = probabilities.max(0).indices.to("cpu").numpy().astype(np.uint8)
    return label if background is None else np.where(background, np.uint8(BACKGROUND), label)


def remove_islands(label: np.ndarray, factor: float = 1.0) -> np.ndarray:
    """A copy without regions below their class's least area; each takes the class that most of its border touches.

    Args:
        label: ``uint8 (H, W)`` class ids.
        factor: times :data:`ISLANDS`. Background has no least area, and takes a region only where nothing else does.
    """
    label, found = label.copy(), []
    for c, least in ISLANDS.items():
        least *= factor * label.size / 1e6
        count, regions, stats, _ = cv2.connectedComponentsWithStats((label == c).astype(np.uint8), connectivity=8)
        small = np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] < least) + 1
        found += [(int(stats[i, cv2.CC_STAT_AREA]), c, stats[i, :4], regions == i) for i in small]
    for _, _, (x, y, width, height), region in sorted(found, key=lambda island: island[:2]):
        view = slice(max(0, y - 1), y + height + 1), slice(max(0, x - 1), x + width + 1)
        inside = region[view]
        around = cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) > inside
        votes = np.bincount(label[view][around], minlength=256)
        if votes.sum() > votes[BACKGROUND]:
            votes[BACKGROUND] = 0
        if votes.any():
            label[view][inside] = votes.argmax()
    return label


# Statistics inside the network


class _Moments:
    """Running mean and variance of each channel over maps ``(N, C, ...)``."""

    def __init__(self):
        self.count, self.total, self.squares = 0, 0.0, 0.0

    def add(self, maps) -> None:
        x = maps.double().transpose(0, 1).flatten(1)
        self.count += x.shape[1]
        self.total, self.squares = self.total + x.sum(1), self.squares + x.square().sum(1)

    def result(self) -> tuple:
        mean = self.total / self.count
        return mean, (self.squares / self.count - mean.square()).clamp(min=0)


def adapt_norms(model, forward: Callable[[], None], share: float) -> int:
    """Move the batch norms' statistics towards those of other images.

    Mean and variance become (1 - ``share``) of what training left and ``share`` of what is measured, over all images
    together. Source: Schneider et al., "Improving robustness against common corruptions by covariate shift
    adaptation", NeurIPS 2020.

    Args:
        model: in evaluation mode; changed in place.
        forward: runs the model on the images, all of them, each time alike.
        share: 0 to 1.

    Returns:
        The number of batch norms that were changed.

    Raises:
        InputError: no batch norm that ``forward`` passes through.
    """
    from torch.nn.modules.batchnorm import _BatchNorm

    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    before = {norm: (norm.running_mean.clone(), norm.running_var.clone()) for norm in norms}
    for _ in range(_ROUNDS):
        seen: dict = {}
        with _hooked(norms, lambda norm, inputs, _, seen=seen: seen.setdefault(norm, _Moments()).add(inputs[0])):
            forward()
        if not seen:
            raise InputError("norms: the network has no batch norm that inference uses; pass norms=0, or features.")
        for norm, moments in seen.items():
            kept_ones = norm.running_mean, norm.running_var
            for kept, old, new in zip(kept_ones, before[norm], moments.result(), strict=True):
                kept.copy_((1 - share) * old + share * new)
    return len(seen)


def align_features(model, on_source: Callable[[], None], on_target: Callable[[], None], share: float) -> None:
    """Have the backbone's maps of the target look to the head as those of the source do; needs no batch norms.

    From now on each channel of each map is scaled and shifted, ``share`` of the way (0 to 1) to where its mean and
    deviation over the target's images are those over the source's: the first two moments, channel by channel, of what
    Sun & Saenko, "Deep CORAL", ECCV 2016 workshops, align in training.

    Args:
        model: with a ``backbone`` whose result is a tuple of ``(N, C, h, w)``; changed in place.
        on_source, on_target: run the model on images.
    """
    found = []
    for forward in (on_source, on_target):
        seen: dict = {}

        def note(_, inputs, maps, seen=seen):
            for i, one in enumerate(maps):
                seen.setdefault(i, _Moments()).add(one)

        with _hooked([model.backbone], note):
            forward()
        found.append([seen[i].result() for i in range(len(seen))])
    changes = []
    for (mean, variance), (own_mean, own_variance) in zip(*found, strict=True):
        scale = 1 + share * (((variance + _TINY) / (own_variance + _TINY)).sqrt() - 1)
        shift = own_mean + share * (mean - own_mean) - scale * own_mean
        changes.append((scale[:, None, None].float(), shift[:, None, None].float()))

    def align(_, inputs, maps):
        return tuple(one * scale + shift for one, (scale, shift) in zip(maps, changes, strict=True))

    model.backbone.register_forward_hook(align)


@contextmanager
def _hooked(modules, note: Callable):
    hooks = [module.register_forward_hook(note) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
