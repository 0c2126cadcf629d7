"""The validation metric."""

import numpy as np
import pytest
import torch

from lib.dataset.classes import CLASSES, CLASSES_WITH_BACKGROUND, IGNORE
from lib.training.metric import ScoredIoU


def scores(label, prediction):
    metric = ScoredIoU(scored=len(CLASSES))
    metric.dataset_meta = {"classes": CLASSES_WITH_BACKGROUND}
    samples = [{"gt_sem_seg": {"data": label}, "pred_sem_seg": {"data": prediction}}]
    metric.process(None, samples)
    return metric.compute_metrics(metric.results)


def test_background_is_not_scored():
    label = torch.from_numpy(np.repeat(np.arange(len(CLASSES_WITH_BACKGROUND)), 4).reshape(1, 1, -1))
    predicted = label.clone()
    predicted[label == len(CLASSES)] = 0  # Background taken for class 0
    found = scores(label, predicted)
    assert found["mIoU"] == pytest.approx((11 + 0.5) / 12)
    assert found[f"IoU/{CLASSES[0]}"] == pytest.approx(0.5) and "IoU/Background" not in found
    assert found["mAcc"] == found["aAcc"] == 1


def test_scores_are_those_of_mmseg():
    from mmseg.evaluation import IoUMetric

    rng = np.random.default_rng(0)
    label = torch.from_numpy(rng.integers(0, 9, (1, 40, 50)))  # classes that no label shows are predicted
    prediction = torch.where(torch.rand(1, 40, 50) < 0.5, label, torch.from_numpy(rng.integers(0, 13, (1, 40, 50))))
    label[:, :5] = IGNORE
    reference = IoUMetric()
    reference.dataset_meta = {"classes": CLASSES}
    areas = IoUMetric.intersect_and_union(prediction, label, len(CLASSES_WITH_BACKGROUND), IGNORE)
    expected = reference.compute_metrics([tuple(area[: len(CLASSES)] for area in areas)])
    found = scores(label, prediction)
    for name in ("mIoU", "mAcc", "aAcc"):
        assert found[name] == pytest.approx(expected[name] / 100, abs=1e-4), name
