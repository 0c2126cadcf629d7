"""Scores of predicted class maps. All of them follow from one confusion matrix."""

from typing import Literal

import numpy as np

from lib.dataset.classes import IGNORE

Unlabelled = Literal["skip", "zero if predicted", "zero"]
"""How a class that no label shows enters a mean: not at all, as 0 where it is predicted (mmseg), or always as 0."""


def confusion_matrix(label: np.ndarray, prediction: np.ndarray, classes: int, ignore: int = IGNORE) -> np.ndarray:
    """Count pixels by labelled (rows) and predicted class (columns), ``int64 (C, C)``.

    Pixels whose label is ``ignore`` or no class are left out. A prediction that is no class counts as wrong: as the
    last class, or as the first one where the label is the last.
    """
    label, prediction = np.asarray(label).ravel(), np.asarray(prediction).ravel()
    counted = (label != ignore) & (label >= 0) & (label < classes)
    label, prediction = label[counted].astype(np.int64), prediction[counted]
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
    """Return the share of each class's pixels that is predicted as such, as :func:`iou`; mmseg calls it accuracy."""
    labelled = confusion.sum(axis=1)
    return np.where(labelled > 0, confusion.diagonal() / np.maximum(labelled, 1), np.nan)


def mean_iou(confusion: np.ndarray, scored: int | None = None, unlabelled: Unlabelled = "skip") -> float:
    """Return the mean of :func:`iou` over the first ``scored`` classes; NaN where no class enters it."""
    values, predicted = iou(confusion)[:scored], confusion.sum(axis=0)[:scored] > 0
    if unlabelled != "skip":
        values[np.isnan(values) & (predicted | (unlabelled == "zero"))] = 0
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")
