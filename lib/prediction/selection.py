"""Choice of a checkpoint, and of an image size, by predictions for target frames. No label is read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lib.dataset import image_files, layout
from lib.dataset.classes import CLASSES, CLASSES_WITH_BACKGROUND
from lib.diagnostics.metrics import confusion_matrix, mean_iou
from lib.errors import InputError
from lib.parallel import evenly_spaced
from lib.prediction.network import Network
from lib.prediction.options import TestTimeOptions
from lib.run import Run
from lib.synthesis.target_camera import is_known, read_overlay_mask

FRAMES = 24
"""Target frames that judge a checkpoint, evenly spaced."""
SCALES = (0.75, 1.0, 1.5, 2.0)
"""Multiples of the recipe's image size to choose from. A fisheye shows streets smaller than the source camera does;
enlarged, they have the size seen in training."""
CRITERION = "information"
"""Criterion of :func:`unsupervised_score` that decides: of those tried it agrees best with the true mIoU."""
_SMALLER = 0.75


def unsupervised_score(
    out: str | Path,
    checkpoint: str | Path,
    frames: Sequence[str | Path],
    *,
    scale: float = 1.0,
    mask: np.ndarray | None = None,
    device: str | None = None,
) -> dict[str, float]:
    """Rate a checkpoint of a run on target frames without labels, by criteria from 0 to 1; larger is better.

    ``mask``, ``bool (H, W)`` of any size, leaves pixels out; None: the run's overlay, if it has one.

    Returns:
        ``mirror``, ``smaller``: mean IoU over the scored classes between the predictions for the frames and for their
        mirror images or smaller copies, 0 for a class that is never predicted. ``agreement``: mean of the two.
        ``certainty``: 1 - mean entropy / log(classes). ``information``: (entropy of the mean prediction - mean
        entropy) / log(classes), the mutual information of Bridle et al., "Unsupervised classifiers, mutual
        information and phantom targets", NeurIPS 1991; high if pixels are certain and all classes are in use.
    """
    run, classes = Run(out), len(CLASSES_WITH_BACKGROUND)
    if mask is None:
        mask = read_overlay_mask(run.augmented) if is_known(run.augmented) else np.zeros((1, 1), bool)
    network, smaller_network = (
        Network(run.config, checkpoint, TestTimeOptions(scales=[factor], device=device))
        for factor in (scale, _SMALLER * scale)
    )
    confusions = np.zeros((2, classes, classes), np.int64)
    mean, entropy, pixels = np.zeros(classes), 0.0, 0
    for image in map(image_files.read_image, frames):
        visible = cv2.resize(mask.astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT) == 0
        both = network.probabilities([image, np.ascontiguousarray(image[:, ::-1])])
        plain, mirrored = (probabilities.cpu().numpy() for probabilities in both)
        smaller = smaller_network.probabilities([image])[0].cpu().numpy()
        label = plain.argmax(0)[visible]
        for confusion, other in zip(confusions, (mirrored[..., ::-1], smaller), strict=True):
            confusion += confusion_matrix(label, other.argmax(0)[visible], classes)
        values = plain[:, visible]
        mean += values.sum(1)
        entropy += _entropy(values)
        pixels += values.shape[1]
    mean, entropy = mean / max(1, pixels), entropy / max(1, pixels)
    mirror, small = (mean_iou(confusion, len(CLASSES), "zero") for confusion in confusions)
    return {
        "agreement": (mirror + small) / 2,
        "mirror": mirror,
        "smaller": small,
        "certainty": float(1 - entropy / np.log(classes)),
        "information": float((_entropy(mean) - entropy) / np.log(classes)),
    }


def select(out: str | Path, data: str | Path, device: str | None = None) -> Path:
    """Return the checkpoint of a run that is best by :data:`CRITERION` on the target frames of a data set."""
    run, frames = Run(out), target_frames(data)
    checkpoints = run.checkpoints()
    if not checkpoints:
        raise InputError(f"{run.train} holds no checkpoint. Run 02_train for this run folder first.")
    return _best({path: unsupervised_score(out, path, frames, device=device) for path in checkpoints})


def select_scale(out: str | Path, checkpoint: str | Path, data: str | Path, device: str | None = None) -> float:
    """Return the one of :data:`SCALES` at which a checkpoint is best; see :func:`select`."""
    frames = target_frames(data)
    return _best({x: unsupervised_score(out, checkpoint, frames, scale=x, device=device) for x in SCALES})


def _best(ratings: dict[Any, dict[str, float]]) -> Any:
    scores = {choice: rating[CRITERION] for choice, rating in ratings.items()}
    print(f"{CRITERION}: " + ", ".join(f"{getattr(c, 'stem', c)} {score:.4f}" for c, score in scores.items()))
    return max(scores, key=scores.__getitem__)


def target_frames(data: str | Path) -> list[Path]:
    """Return at most :data:`FRAMES` of the target's frames, evenly spaced."""
    return evenly_spaced([item.image for item in layout.read_split(data, "train_target")], FRAMES)


def _entropy(probabilities: np.ndarray) -> float:
    """Return the entropy in nats, summed over all pixels."""
    return -float((probabilities * np.log(np.maximum(probabilities, 1e-12))).sum())
