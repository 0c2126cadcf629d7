"""Hooks of the training, and its checkpoint files' backend; importing this module registers them."""

import time
from pathlib import Path

import torch
from mmengine.dist import get_rank, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmseg.registry import HOOKS

from lib.files import whole_file
from lib.internimage.checkpoints.loading import load_weights
from lib.run import Run
from lib.training import progress


@HOOKS.register_module()
class ProgressHook(Hook):
    """Print the training's state, at most once a second, for :func:`lib.training.progress.progress_bar`."""

    priority = "VERY_LOW"

    def before_train(self, runner) -> None:
        self._last = 0.0
        self._print(iter=runner.iter)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if time.monotonic() - self._last >= 1 or runner.iter + 1 == runner.max_iters:
            self._last = time.monotonic()
            parts = {name: float(outputs[name]) for name in ("source", "target") if name in outputs}  # self-training
            self._print(iter=runner.iter + 1, loss=float(outputs["loss"]), **parts)

    def after_val_epoch(self, runner, metrics=None) -> None:
        self._print(iter=runner.iter, mIoU=float(metrics["mIoU"]))

    def _print(self, **state) -> None:
        if is_main_process():
            progress.print_state(**state)


@HOOKS.register_module()
class ResumeHook(Hook):
    """Resume from the newest checkpoint in the run folder, if there is one.

    mmengine's own note of the last checkpoint is written after the file, and names a folder that may have moved.
    Dropout and drop path depend on the iteration alone, so that a resumed training equals an undisturbed one.
    """

    priority = "VERY_HIGH"

    def before_run(self, runner) -> None:
        if checkpoint := Run(Path(runner.work_dir).parent).last_checkpoint():
            runner._resume, runner._load_from = True, str(checkpoint)

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        torch.manual_seed(iteration_seed(runner.seed, runner.iter))


def iteration_seed(seed: int, iteration: int) -> int:
    """Return another seed for each iteration and process."""
    return hash((seed, iteration, get_rank())) % 2**63


@HOOKS.register_module()
class StartWeightsHook(Hook):
    """Load the weights of another training by the arguments of ``load_weights``, unless this one is resumed."""

    priority = "VERY_HIGH"  # before the hooks that copy weights: the average's, the teacher's

    def __init__(self, **weights):
        self.weights = weights

    def before_shard(self, runner) -> None:
        self._load(runner)  # sharded weights can no longer be replaced

    def before_train(self, runner) -> None:
        if runner.iter == 0:
            self._load(runner)

    def _load(self, runner) -> None:
        network = runner.model.module if is_model_wrapper(runner.model) else runner.model
        network = getattr(network, "student", network)  # of self-training
        if self.weights:
            print(load_weights(network, allow_backbone=True, **self.weights), flush=True)
        self.weights = {}


@HOOKS.register_module()
class ValidateOnResumeHook(Hook):
    """Validate first when a resumed checkpoint was written just before a validation.

    The loop saves, then validates; without this hook, a kill in between would lose that score.
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
