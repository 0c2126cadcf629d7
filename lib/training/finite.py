"""The hook that ends a training whose loss, gradient or weights are no longer finite."""

import math
from pathlib import Path

import torch
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmseg.registry import HOOKS
from torch import Tensor
from torch.distributed.tensor import DTensor

from lib.errors import InputError
from lib.internimage.checkpoints.finite import not_finite
from lib.run import Run

SKIPPED_STEPS = 16
"""Consecutive steps that fp16's loss scaler may skip; as many halvings bring its first scale, 65536, to 1."""
_SHOWN = 16  # images that the message names


@HOOKS.register_module()
class FiniteHook(Hook):
    """End the training at the first loss or norm of the gradient that is not finite; keep such weights out of files.

    The norm is computed on the device at each step of the optimiser, unless ``clip_grad`` already did. Loss and norm,
    summed over the processes, are read after the iteration. mmengine has read the loss for its log by then, so a GPU is
    not waited for once more. All processes come to the same decision.
    """

    priority = "LOW"  # after mmengine read the loss, before checkpoints (VERY_LOW)

    def before_train(self, runner) -> None:
        self._norm: Tensor | None = None
        self._skipped, self._logged = 0, runner.message_hub.log_scalars
        runner.optim_wrapper.optimizer.register_step_pre_hook(self._measure)

    def _measure(self, optimizer, args, kwargs) -> None:
        if clipped := self._logged.get("train/grad_norm"):
            self._norm = torch.tensor(clipped.current())  # before clipping, which may turn infinity into 0
            return
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        self._norm = torch.nn.utils.get_total_norm([_local(gradient) for gradient in gradients])

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        loss, norm = outputs["loss"].detach(), self._norm
        total = loss.float().clone() if norm is None else loss + norm
        self._norm = None
        all_reduce(total)
        scaler = getattr(runner.optim_wrapper, "loss_scaler", None)
        steps = runner.optim_wrapper.should_update()
        if scaler and scaler.is_enabled():
            sound = not steps or (norm is not None and math.isfinite(total))
            self._skipped = 0 if steps and sound else self._skipped + (not sound)
            sound = self._skipped < SKIPPED_STEPS
        else:
            sound = math.isfinite(total)
        if not sound:
            files = [sample.img_path for sample in data_batch["data_samples"]]
            raise InputError(_diverged(runner, all_gather_object((float(loss), files)), self._skipped))
        if self.every_n_train_iters(runner, runner.cfg.val_interval) or self.is_last_train_iter(runner):
            # Before the oldest checkpoint is deleted to make room for the next.
            network = runner.model.module if is_model_wrapper(runner.model) else runner.model
            _check_weights(runner, network.state_dict())

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        for name in ("state_dict", "ema_state_dict", "self_training"):
            _check_weights(runner, checkpoint.get(name, {}))


def _local(tensor: Tensor) -> Tensor:
    """Return the part of a sharded tensor that this process holds."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _check_weights(runner, weights: dict[str, Tensor]) -> None:
    if names := not_finite({name: _local(tensor) for name, tensor in weights.items()}):
        raise InputError(f"the weights in iteration {runner.iter + 1} are not finite ({names[0]}); {_remedy(runner)}")


def _diverged(runner, found: list[tuple[float, list[str]]], skipped: int) -> str:
    """Return the message, from loss and image files of each process, and the number of skipped steps."""
    guilty = [(loss, files) for loss, files in found if not math.isfinite(loss)]
    files = [file for _, files in guilty or found for file in files]
    more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    fault = f"loss is {guilty[0][0]}" if guilty else "gradient's norm is not finite"
    steps = f", after {skipped} skipped steps in a row" if skipped else ""
    images = f"images of the batch: {', '.join(files[:_SHOWN])}{more}"
    return f"iteration {runner.iter + 1}: the {fault}{steps} ({images}); {_remedy(runner)}"


def _remedy(runner) -> str:
    kept = Run(Path(runner.work_dir).parent).last_checkpoint()
    last = f"the last good checkpoint is {kept.name}" if kept else "there is no checkpoint yet"
    return (
        f"{last}. Lower the learning rate (options: optim_wrapper.optimizer.lr), lengthen the warm-up (warmup_iters), "
        "limit the gradient (clip_grad), or pass amp=False or bf16."
    )
