"""Scores of predicted class maps. All of them follow from one confusion matrix."""

from __future__ import annotations

from typing import Literal

import numpy as np

from lib.dataset.classes import IGNORE

Unlabelled = Literal["skip", "zero if predicted", "zero"]
"""How a class that no label shows enters a mean: not at all, as 0 where it is predicted (mmseg), or always as 0."""


def confusion_matrix(label: np.ndarray, prediction: np.ndarray, classes: int, ignore: int = IGNORE) -> np.ndarray:
    """Count pixels by labelled and predicted class.

    Args:
        label, prediction: class ids, integers of equal shape. Pixels whose label is ``ignore`` or no class are left
            out. A prediction that is no class counts as wrong: as the last class (Background here), or as the first
            one where the label is the last.
        classes: number of classes C.
        ignore: label of the pixels to leave out.

    Returns:
        ``int64 (C, C)``: rows are labels, columns are predictions. Matrices of several images add up.
    """
    label, prediction = np.asarray(label).ravel(), np.asarray(prediction).ravel()
    counted = (label != ignore) & (label >= 0) & (label < classes)
    if not counted.all():
        label, prediction = label[counted], prediction[counted]
    label = label.astype(np.int64)
    outside = (prediction < 0) | (prediction >= classes)
    if outside.any():
        prediction = np.where(outside, np.where(label == classes - 1, 0, classes - 1), prediction)
    return np.bincount(label * classes + prediction, minlength=classes**2).reshape(classes, classes)


def iou(confusion: np.ndarray) -> np.ndarray:
    """Return intersection over union of each class, ``float64 (C,)``; NaN for a class that no label shows."""
    both, labelled = confusion.diagonal(), confusion.sum(axis=1)
    either = labelled + confusion.sum(axis=0) - both
    return np.where(labelled > 0, both / np.maximum(either, 1), np.nan)


def recall(confusion: np.ndarray) -> np.ndarray:
    """Return the share of each class's pixels that is predicted as such, ``float64 (C,)``; mmseg calls it accuracy.

    NaN for a class that no label shows.
    """
    labelled = confusion.sum(axis=1)
    return np.where(labelled > 0, confusion.diagonal() / np.maximum(labelled, 1), np.nan)


def mean_iou(confusion: np.ndarray, scored: int | None = None, unlabelled: Unlabelled = "skip") -> float:
    """Return the mean of :func:`iou`, 0 to 1; NaN where no class enters it.

    Args:
        confusion: from :func:`confusion_matrix`.
        scored: number of classes in the mean, from the first on; None: all.
        unlabelled: one of :data:`Unlabelled`. A submission's score skips classes without labels, mmseg's metric counts
            false alarms of them, and agreement between predictions counts every class.
    """
    values, predicted = iou(confusion)[:scored], confusion.sum(axis=0)[:scored] > 0
    if unlabelled != "skip":
        values[np.isnan(values) & (predicted | (unlabelled == "zero"))] = 0
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")
