"""Class maps from probabilities: most probable class, overlay, removal of small regions."""

import cv2
import numpy as np
from torch import Tensor

from lib.dataset import classes
from lib.dataset.classes import BACKGROUND

MIN_AREA = {
    classes.ROAD: 250,
    classes.SIDEWALK: 150,
    classes.CONSTRUCTION: 200,
    classes.FENCE: 150,
    classes.POLE: 30,
    classes.TRAFFIC_LIGHT: 15,
    classes.TRAFFIC_SIGN: 15,
    classes.NATURE: 200,
    classes.SKY: 100,
    classes.PERSON: 20,
    classes.RIDER: 20,
    classes.CAR: 50,
}
"""Least area of a region of each class, in millionths of the image."""


def most_probable_class(probabilities: Tensor, overlay: np.ndarray | None = None) -> np.ndarray:
    """Return the class ids ``uint8 (H, W)`` with the largest of the probabilities ``(classes, H, W)``.

    Background is where the mask ``overlay``, ``bool (H, W)``, is, and there alone; None: as predicted.
    """
    if overlay is not None:
        probabilities = probabilities[:BACKGROUND]
    # On a CPU, `max` takes a quarter of the time of `argmax`.
    label = probabilities.max(0).indices.to("cpu").numpy().astype(np.uint8)
    return label if overlay is None else np.where(overlay, np.uint8(BACKGROUND), label)


def remove_small_regions(label: np.ndarray, factor: float = 1.0) -> np.ndarray:
    """Return class ids ``uint8 (H, W)`` with regions below ``factor`` times :data:`MIN_AREA` replaced.

    A region takes the class that most of its border touches. Background has no least area, and replaces a region only
    where nothing else touches it.
    """
    label, small = label.copy(), []
    for class_id, millionths in MIN_AREA.items():
        least = millionths * (factor * label.size / 1e6)
        _, regions, stats, _ = cv2.connectedComponentsWithStats((label == class_id).astype(np.uint8), connectivity=8)
        for i in np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] < least) + 1:
            small.append((int(stats[i, cv2.CC_STAT_AREA]), class_id, stats[i, :4], regions == i))
    for _, _, (x, y, width, height), region in sorted(small, key=lambda entry: entry[:2]):
        box = slice(max(0, y - 1), y + height + 1), slice(max(0, x - 1), x + width + 1)
        inside = region[box]
        border = cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) > inside
        votes = np.bincount(label[box][border], minlength=256)
        if votes.sum() > votes[BACKGROUND]:
            votes[BACKGROUND] = 0
        if votes.any():
            label[box][inside] = votes.argmax()
    return label
