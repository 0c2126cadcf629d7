"""Our entries in mmengine's and mmseg's registries: the data set, the metric, and hooks.

Importing this module registers them; a resolved recipe does so through ``custom_imports``.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import Hook
from mmseg.datasets import BaseSegDataset
from mmseg.evaluation import IoUMetric
from mmseg.registry import DATASETS, HOOKS, METRICS

from lib.dataset import layout
from lib.dataset.classes import CLASSES
from lib.files import whole_file
from lib.training.progress import PROGRESS


@DATASETS.register_module()
class CompetitionDataset(BaseSegDataset):
    """A split of a data set in the competition's layout.

    Args:
        folder: the data set.
        split: ``train_source``, ``val_source`` or ``train_target``; the name of the CSV without its suffix.
        **kwargs: of mmseg's ``BaseSegDataset``.
    """

    def __init__(self, folder: str, split: str, **kwargs):
        self.folder, self.split = folder, split
        super().__init__(reduce_zero_label=False, **kwargs)

    def load_data_list(self) -> list[dict]:
        items = layout.read_split(self.folder, self.split)
        table = layout.read_table(Path(self.folder) / f"{self.split}.csv", ("id",))
        weights = table["weight"].astype(float) if "weight" in table else [1.0] * len(items)
        shared = dict(label_map=self.label_map, reduce_zero_label=False, seg_fields=[])
        return [
            dict(img_path=str(item.image), seg_map_path=item.label and str(item.label), weight=weight, **shared)
            for item, weight in zip(items, weights, strict=True)
        ]


@METRICS.register_module()
class ScoredIoU(IoUMetric):
    """Mean IoU (%) over the competition's 12 classes; Background is learned but not scored."""

    def compute_metrics(self, results: list) -> dict[str, float]:
        count = len(CLASSES)
        self.dataset_meta = {**self.dataset_meta, "classes": CLASSES}
        return super().compute_metrics([tuple(area[:count] for area in areas) for areas in results])


@HOOKS.register_module()
class ProgressHook(Hook):
    """Print the training's state, at most once a second, for the process that started it."""

    priority = "VERY_LOW"

    def before_train(self, runner) -> None:
        self._last = 0.0
        self._say(iter=runner.iter)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if time.monotonic() - self._last >= 1 or runner.iter + 1 == runner.max_iters:
            self._last = time.monotonic()
            parts = {name: float(outputs[name]) for name in ("source", "target") if name in outputs}  # self-training's
            self._say(iter=runner.iter + 1, loss=float(outputs["loss"]), **parts)

    def after_val_epoch(self, runner, metrics=None) -> None:
        self._say(iter=runner.iter, mIoU=float(metrics["mIoU"]))

    def _say(self, **state) -> None:
        if is_main_process():
            sys.stdout.write(f"{PROGRESS}{json.dumps(state)}\n")
            sys.stdout.flush()


@HOOKS.register_module()
class ValidateOnResumeHook(Hook):
    """Validate first when a resumed checkpoint was written just before a validation.

    The loop saves, then validates; without this, a kill in between would lose that score for good.
    """

    def before_train_epoch(self, runner) -> None:
        if runner.iter > 0 and runner.iter % runner.train_loop.val_interval == 0:
            runner.val_loop.run()
            runner.model.train()


class WholeFileBackend(LocalBackend):
    """Local files that appear whole or not at all, so that a kill leaves no half checkpoint."""

    def put(self, obj: bytes, filepath) -> None:
        with whole_file(filepath) as temporary:
            temporary.write_bytes(obj)


register_backend("whole_file", WholeFileBackend, force=True)
