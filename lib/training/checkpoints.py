"""Checkpoints from which a training resumes: damaged ones are set aside."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lib import recipes
from lib.internimage.checkpoints import formats
from lib.recipes.config_file import read_config
from lib.run import Run, iteration

if TYPE_CHECKING:  # importing mmengine takes seconds
    from mmengine import Config

_REMEDY = "versions up to 0.2.0 wrote such files: finish the training with that version, or begin anew (--restart)."
_ENTRIES = ("meta", "state_dict", "message_hub", "optimizer", "param_schedulers")


def set_damaged_aside(run: Run) -> None:
    """Rename damaged checkpoints, newest first, until the newest one is sound, and a damaged best one; say so.

    Sound: whole, with all entries and weights of this training, and finite.

    Raises:
        InputError: a checkpoint holds more than data, and reading it would run code.
    """
    best = run.best_checkpoint()
    if best and best != run.last_checkpoint() and (fault := formats.damage(best, old_format=False)):
        _set_aside(best, fault, "is trained again from the last checkpoint")
    if run.last_checkpoint() is None:
        return
    cfg = read_config(run.config)
    shapes = _shapes(cfg)
    while (path := run.last_checkpoint()) and (fault := _fault(path, cfg, shapes)):
        older = max((p for p in run.train.glob("iter_*.pth") if p != path), key=iteration, default=None)
        _set_aside(path, fault, f"resumes from {older.name}" if older else "begins anew, because there is no older one")


def _set_aside(path: Path, fault: str, then: str) -> None:
    aside = path.with_name(f"{path.name}.damaged")
    path.replace(aside)
    print(f"{path}: {fault}. It is now {aside.name}, and the training {then}.", file=sys.stderr, flush=True)


def _shapes(cfg: Config) -> dict[str, torch.Size]:
    """Return names and shapes of the weights of the config's network."""
    from lib.training.checks import build_network  # here, because mmseg takes seconds to import

    network = build_network(cfg)
    network = getattr(network, "student", network)  # of self-training
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


def _fault(path: Path, cfg: Config, shapes: Mapping[str, torch.Size]) -> str:
    """Return the reason why a training cannot resume from a checkpoint; "": it can."""
    if fault := formats.damage(path, old_format=False):
        return fault
    content = formats.read(path, remedy=_REMEDY)
    needed = [*_ENTRIES, *(["ema_state_dict"] if cfg.get("ema") else [])]
    needed += ["self_training"] if cfg.get("model") != recipes.network(cfg) else []
    content = content if isinstance(content, dict) else {}
    if missing := [name for name in needed if name not in content]:
        return f"no checkpoint of this training ({missing[0]} is missing)"
    weights = content["state_dict"] if isinstance(content["state_dict"], Mapping) else {}
    found = {str(name): getattr(value, "shape", None) for name, value in weights.items()}
    if other := sorted(name for name in found.keys() | shapes.keys() if found.get(name) != shapes.get(name)):
        return f"no checkpoint of this network ({other[0]} and {len(other) - 1} more are missing or of another shape)"
    state = {name: value for name, value in content.items() if name != "message_hub"}  # scores may be undefined
    return next((f"{name} is not finite" for name, value in _tensors(state, "") if not torch.isfinite(value).all()), "")


def _tensors(value, place: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield place, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _tensors(inner, f"{place}.{name}".lstrip("."))
