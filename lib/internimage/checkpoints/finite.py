"""Weights that are not finite: no checkpoint with them is written or loaded."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from lib.errors import InputError


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of floating tensors that hold NaN or infinite values; sparse ones are not looked into."""
    dense = {name: tensor for name, tensor in tensors.items() if tensor.layout is torch.strided}
    return [name for name, tensor in dense.items() if tensor.is_floating_point() and not tensor.isfinite().all()]


def check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise InputError if the weights of a checkpoint are not finite."""
    if names := not_finite(tensors):
        raise InputError(
            f"{path}: {len(names)} of {len(tensors)} weights hold NaN or infinite values, such as {names[0]} "
            "(expected: finite ones; the training that wrote them diverged); give an earlier checkpoint."
        )
