"""Adaptation of a trained network to the target's statistics, without labels and without training."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lib.errors import InputError

_ROUNDS = 3  # the input of a batch norm changes with the batch norms before it
_EPSILON = 1e-6  # added to variances


def batch_norms(model: nn.Module) -> list[nn.Module]:
    """Return the batch norms that inference uses; raise InputError where there is none."""
    norms: list[nn.Module] = [
        module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats and not name.startswith("auxiliary_head")
    ]
    if not norms:
        found = "norm_adaptation: the network has no batch norm that inference uses"
        raise InputError(f"{found} (expected: 0, or feature_alignment)")
    return norms


def adapt_batch_norms(model: nn.Module, forward: Callable[[], None], share: float) -> int:
    """Move the batch norms' means and variances towards those of other images by a share of 0 to 1; return how many.

    Changes a network in evaluation mode, which ``forward`` runs on all the images. Source: Schneider et al., "Improving
    robustness against common corruptions by covariate shift adaptation", NeurIPS 2020.
    """
    norms = batch_norms(model)
    running = {norm: (norm.get_buffer("running_mean"), norm.get_buffer("running_var")) for norm in norms}
    trained = {norm: (mean.clone(), variance.clone()) for norm, (mean, variance) in running.items()}
    for _ in range(_ROUNDS):
        measured = _moments(norms, forward, "inputs")
        for (norm, _), moments in measured.items():
            for value, old, new in zip(running[norm], trained[norm], moments, strict=True):
                value.copy_((1 - share) * old + share * new)
    return len(measured)


def align_features(
    model: nn.Module, source_forward: Callable[[], None], target_forward: Callable[[], None], share: float
) -> None:
    """Move mean and deviation of the backbone's features on the target towards those on the source, by a share.

    Each channel of each map ``(N, C, h, w)`` of ``model.backbone`` is scaled and shifted. Sun & Saenko, "Deep CORAL",
    ECCV 2016 workshops, align such moments in training.
    """
    backbone = model.get_submodule("backbone")
    source, target = (_moments([backbone], run, "outputs").values() for run in (source_forward, target_forward))
    changes = []
    for (mean, variance), (target_mean, target_variance) in zip(source, target, strict=True):
        scale = 1 + share * (((variance + _EPSILON) / (target_variance + _EPSILON)).sqrt() - 1)
        shift = target_mean + share * (mean - target_mean) - scale * target_mean
        changes.append((scale[:, None, None].float(), shift[:, None, None].float()))

    def align(_, inputs, maps):
        return tuple(x * scale + shift for x, (scale, shift) in zip(maps, changes, strict=True))

    backbone.register_forward_hook(align)


def _moments(
    modules: Sequence[nn.Module], forward: Callable[[], None], side: Literal["inputs", "outputs"]
) -> dict[tuple[nn.Module, int], tuple[Tensor, Tensor]]:
    """Return mean and variance of each channel of the maps that enter or leave modules, by module and map."""
    sums: dict = defaultdict(lambda: [0, 0.0, 0.0])

    def add(module, inputs, outputs):
        for level, maps in enumerate(inputs if side == "inputs" else outputs):
            x, total = maps.double().transpose(0, 1).flatten(1), sums[module, level]
            total[:] = total[0] + x.shape[1], total[1] + x.sum(1), total[2] + x.square().sum(1)

    with ExitStack() as hooks:
        for module in modules:
            hooks.enter_context(module.register_forward_hook(add))
        forward()
    means = {key: (total / count, squares / count) for key, (count, total, squares) in sums.items()}
    return {key: (mean, (square - mean.square()).clamp(min=0)) for key, (mean, square) in means.items()}
