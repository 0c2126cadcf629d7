"""Convert a **trusted** checkpoint that holds more than weights to a file of weights alone.

No other module runs code that a file holds.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from lib.errors import InputError
from lib.files import whole_file


def convert(old: str | Path, new: str | Path) -> int:
    """Write the tensors of a **trusted** file to ``new``, without the optimizer's; run whatever code the file holds.

    Returns:
        Number of tensors.

    Raises:
        InputError: no such file, or one without tensors.
    """
    if not Path(old).is_file():
        raise InputError(f"{old}: no such file (expected a checkpoint written by torch.save).")
    tensors = _only_tensors(torch.load(old, map_location="cpu", weights_only=False))
    if not tensors:
        raise InputError(f"{old}: holds no tensors (expected a checkpoint).")
    with whole_file(new) as temporary:
        torch.save(tensors, temporary)
    return _count(tensors)


def _only_tensors(content) -> dict:
    """Return the mappings of names to tensors in ``content``, at any depth."""
    if not isinstance(content, Mapping):
        return {}
    tensors = {name: value.detach() for name, value in content.items() if isinstance(value, Tensor)}
    nested = {name: _only_tensors(value) for name, value in content.items() if name != "optimizer"}
    return tensors | {name: value for name, value in nested.items() if value}


def _count(tensors: dict) -> int:
    return sum(_count(value) if isinstance(value, dict) else 1 for value in tensors.values())
