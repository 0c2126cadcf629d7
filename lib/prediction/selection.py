"""How good a network is on images without labels: which checkpoint to take, and at which image size.

A network that knows what it sees says the same of an image, of its mirror image and of a smaller copy. How far it
does is measured like a prediction against labels: intersection over union per class, averaged over all scored
classes, so that a network that has given up the rare ones does not look consistent. Labels are not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from lib.dataset import image_files, layout
from lib.dataset.classes import CLASSES, CLASSES_WITH_BACKGROUND
from lib.errors import InputError
from lib.prediction.network import Network
from lib.run import Run

FRAMES = 24
"""Target frames that a checkpoint is judged on, spread evenly over those there are."""
SCALES = (0.75, 1.0, 1.5, 2.0)
"""Multiples of the recipe's image size to choose from. Streets look smaller through a fisheye than through the source
camera; enlarged, they look as in training."""
CRITERION = "information"
"""Of :func:`unsupervised_score`, the one that decides: of those tried it goes best with the true mIoU."""
_SMALLER = 0.75


def unsupervised_score(
    out: str | Path,
    checkpoint: str | Path,
    frames: Sequence[str | Path],
    *,
    scale: float = 1.0,
    mask: np.ndarray | None = None,
    device: str = "cpu",
) -> dict[str, float]:
    """Criteria for a checkpoint that need no labels, larger is better, each between 0 and 1.

    Args:
        out: run folder whose ``train/config.py`` describes the network.
        checkpoint: its weights.
        frames: image files of the target camera.
        scale: the frames are enlarged by this.
        mask: ``bool (H, W)``, pixels to leave out, of any size; None: the surroundings that the run found, if any.
        device: torch device.

    Returns:
        ``mirror`` and ``smaller``: mean over the scored classes of the IoU between what the network says of the
        frames and of their mirror images or smaller copies, 0 for a class that it never names; ``agreement``, the
        mean of the two; ``certainty``: 1 - mean entropy / log(classes); ``information``: entropy of the mean
        prediction - mean entropy, / log(classes), high where single pixels are certain and all classes in use (the
        mutual information of Bridle et al., "Unsupervised classifiers, mutual information and phantom targets",
        NeurIPS 1991).
    """
    config = Path(out) / "train" / "config.py"
    network = Network(config, checkpoint, scales=(scale,), device=device)
    small = Network(config, checkpoint, scales=(_SMALLER * scale,), device=device)
    own = Path(out) / "augmented" / "overlay_mask.png"
    if mask is None and own.exists():
        mask = image_files.read_label(own) > 0
    classes = len(CLASSES_WITH_BACKGROUND)
    confusions, mean, entropy, pixels = np.zeros((2, classes, classes)), np.zeros(classes), 0.0, 0
    for path in frames:
        image = image_files.read_image(path)
        seen = _seen(mask, image.shape[:2])
        mirrored = np.ascontiguousarray(image[:, ::-1])
        plain, mirror = (p.cpu().numpy() for p in network.probabilities([image, mirrored]))
        smaller = small.probabilities([image])[0].cpu().numpy()
        labels = plain.argmax(0)
        for confusion, other in zip(confusions, (mirror[..., ::-1], smaller), strict=True):
            both = labels[seen] * classes + other.argmax(0)[seen]
            confusion += np.bincount(both, minlength=classes**2).reshape(classes, classes)
        found = plain[:, seen]
        mean += found.sum(1)
        entropy -= float((found * np.log(np.maximum(found, 1e-12))).sum())
        pixels += found.shape[1]
    mean, entropy = mean / max(1, pixels), entropy / max(1, pixels)
    spread = -float((mean * np.log(np.maximum(mean, 1e-12))).sum())
    mirror, smaller = map(_mean_iou, confusions)
    return {
        "agreement": (mirror + smaller) / 2,
        "mirror": mirror,
        "smaller": smaller,
        "certainty": float(1 - entropy / np.log(classes)),
        "information": float((spread - entropy) / np.log(classes)),
    }


def select(out: str | Path, data: str | Path, device: str = "cpu") -> Path:
    """The checkpoint that does best by :data:`CRITERION` on target frames, of those that the training of ``out`` kept.

    Args:
        out: run folder.
        data: data set in the competition's layout; its ``train_target`` split is read.
        device: torch device.

    Raises:
        InputError: no checkpoint there.
    """
    found = Run(out).checkpoints()
    if not found:
        raise InputError(f"{Path(out) / 'train'} holds no checkpoint. Run 02_train for this run folder first.")
    return _best(found, lambda path: unsupervised_score(out, path, target_frames(data), device=device))


def select_scale(out: str | Path, checkpoint: str | Path, data: str | Path, device: str = "cpu") -> float:
    """The one of :data:`SCALES` at which a checkpoint does best by :data:`CRITERION` on target frames."""
    frames = target_frames(data)
    return _best(SCALES, lambda scale: unsupervised_score(out, checkpoint, frames, scale=scale, device=device))


def _best(choices, judge):
    scores = {choice: judge(choice)[CRITERION] for choice in choices}
    print(f"{CRITERION}: " + ", ".join(f"{getattr(c, 'stem', c)} {score:.4f}" for c, score in scores.items()))
    return max(scores, key=scores.get)


def target_frames(data: str | Path) -> list[Path]:
    """At most :data:`FRAMES` of the target's frames, evenly spread."""
    frames = [item.image for item in layout.read_split(data, "train_target")]
    return [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, FRAMES).round().astype(int))]


def _seen(mask: np.ndarray | None, shape: tuple[int, int]) -> np.ndarray:
    if mask is None:
        return np.ones(shape, bool)
    return cv2.resize(mask.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT) == 0


def _mean_iou(confusion: np.ndarray) -> float:
    """Over the scored classes, 0 for those in neither prediction."""
    both = confusion.diagonal()
    either = confusion.sum(0) + confusion.sum(1) - both
    return float((both / np.maximum(either, 1))[: len(CLASSES)].mean())
