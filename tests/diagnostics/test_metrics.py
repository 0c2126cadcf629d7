"""The confusion matrix and the scores that follow from it."""

import numpy as np
import pytest

from lib.dataset.classes import IGNORE
from lib.diagnostics.metrics import confusion_matrix, iou, mean_iou, recall


def test_rows_are_labels_and_ignored_pixels_are_left_out():
    label = np.array([[0, 0, 1], [2, IGNORE, 1]], np.uint8)
    prediction = np.array([[0, 1, 1], [2, 2, 0]], np.uint8)
    confusion = confusion_matrix(label, prediction, 3)
    assert confusion.dtype == np.int64
    assert confusion.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert confusion_matrix(label, prediction, 3, ignore=2).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]


def test_predictions_outside_the_classes_count_as_wrong():
    label = np.array([0, 1, 2, 2], np.uint8)
    confusion = confusion_matrix(label, np.array([255, 1, 7, 2], np.uint8), 3)
    assert confusion.sum(axis=1).tolist() == [1, 1, 2]
    assert iou(confusion).tolist() == [0, 1, 1 / 3]
    assert confusion_matrix(label, np.array([-1, 1, -1, 2]), 3).tolist() == confusion.tolist()


def test_matrix_agrees_with_a_count_pixel_by_pixel():
    rng = np.random.default_rng(0)
    label, prediction = rng.integers(0, 13, (2, 40, 60)).astype(np.uint8)
    expected = np.zeros((13, 13), int)
    for pair in zip(label.ravel(), prediction.ravel(), strict=True):
        expected[pair] += 1
    assert np.array_equal(confusion_matrix(label, prediction, 13), expected)


def test_classes_without_labels():
    # Class 1 is predicted but not labelled, class 2 is neither, class 3 is not scored.
    confusion = np.array([[3, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 9]])
    assert np.array_equal(iou(confusion), [3 / 4, np.nan, np.nan, 1], equal_nan=True)
    assert np.array_equal(recall(confusion), [3 / 4, np.nan, np.nan, 1], equal_nan=True)
    assert mean_iou(confusion, 3) == pytest.approx(3 / 4)
    assert mean_iou(confusion, 3, "zero if predicted") == pytest.approx(3 / 8)
    assert mean_iou(confusion, 3, "zero") == pytest.approx(1 / 4)
    assert mean_iou(confusion) == pytest.approx(7 / 8)
    assert np.isnan(mean_iou(np.zeros((3, 3), int)))


def test_mean_agrees_with_mmseg():
    torch = pytest.importorskip("torch")
    from mmseg.evaluation import IoUMetric

    rng = np.random.default_rng(1)
    label = rng.integers(0, 5, (30, 40))
    label[:3] = IGNORE
    prediction = np.where(rng.random(label.shape) < 0.6, label, rng.integers(0, 6, label.shape))
    prediction[:3] = 0
    areas = IoUMetric.intersect_and_union(torch.tensor(prediction), torch.tensor(label), 7, IGNORE)
    expected = IoUMetric.total_area_to_metrics(*areas, ["mIoU"])
    confusion = confusion_matrix(label, prediction, 7)
    assert mean_iou(confusion, unlabelled="zero if predicted") == pytest.approx(np.nanmean(expected["IoU"]))
    assert np.nanmean(recall(confusion)) == pytest.approx(np.nanmean(expected["Acc"]))
