"""The validation metric, from the confusion matrix that all scores share."""

from collections.abc import Sequence

import numpy as np
from mmengine.evaluator import BaseMetric
from mmseg.registry import METRICS

from lib.dataset.classes import IGNORE
from lib.diagnostics import metrics


@METRICS.register_module()
class ScoredIoU(BaseMetric):
    """Scores (0-1) of the first ``scored`` classes: ``mIoU``, ``mAcc``, ``aAcc`` and the IoU of each class."""

    def __init__(self, scored: int, **kwargs):
        super().__init__(**kwargs)
        self.scored = scored

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        classes = len(self.dataset_meta["classes"])
        for sample in data_samples:
            label, prediction = (sample[key]["data"].cpu().numpy() for key in ("gt_sem_seg", "pred_sem_seg"))
            self.results.append(metrics.confusion_matrix(label, prediction, classes, IGNORE))

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        confusion, count = np.sum(results, axis=0), self.scored
        recall, iou = metrics.recall(confusion)[:count], metrics.iou(confusion)[:count]
        scores = {
            "mIoU": metrics.mean_iou(confusion, count, "zero if predicted"),
            "mAcc": float(np.nanmean(recall)),
            "aAcc": float(confusion.diagonal()[:count].sum() / max(1, confusion[:count].sum())),
        }
        names = self.dataset_meta["classes"][:count]
        return scores | {f"IoU/{name}": float(value) for name, value in zip(names, iou, strict=True)}
