"""What a checkpoint file holds, read without running anything in it.

mmengine's own training checkpoints carry a message hub whose objects weights-only reading refuses; those few names
are replaced by an inert stand-in. A file that needs more is refused; where it is trusted,
:mod:`lib.tools.convert` makes one of it that needs nothing.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from lib.errors import InputError


class _NoTensor:
    """Stands in for what a training checkpoint holds beside its weights: takes any state, does nothing."""

    def __init__(self, *args):
        pass

    def __setstate__(self, state):
        pass


# What mmengine's message hub is pickled with, under numpy 1 and 2. The real `getattr` would let a file reach
# into any object, so not even that one is let in.
_BESIDE_WEIGHTS = [
    (_NoTensor, name)
    for name in (
        "builtins.getattr",
        "mmengine.logging.history_buffer.HistoryBuffer",
        "numpy.core.multiarray._reconstruct",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray._reconstruct",
        "numpy._core.multiarray.scalar",
        "numpy.dtype",
        "numpy.ndarray",
    )
]


def read(path: Path):
    """What ``torch.load`` makes of the file, without running anything in it.

    Raises:
        InputError: there is no such file, it cannot be read, or reading it would run code.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file (expected a checkpoint written by torch.save).")
    try:
        # The format of before torch 1.6 is no archive, and only archives can be mapped.
        mmap = zipfile.is_zipfile(path)
        with torch.serialization.safe_globals(_BESIDE_WEIGHTS):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except Exception as error:  # torch.load answers a foreign or cut file with nearly any exception
        if isinstance(error, pickle.UnpicklingError) and (refused := re.search(r"GLOBAL (\S+)", str(error))):
            raise InputError(
                f"{path}: holds more than weights, and reading it would run code (it asks for {refused[1]}); if you "
                f"trust where it comes from, convert it: python -m lib.tools.convert {path} "
                f"{path.with_name(path.stem + '_weights.pth')}"
            ) from None
        raise InputError(
            f"{path}: cut short, or not a checkpoint ({path.stat().st_size} bytes; expected a file written by "
            "torch.save); copy or download it again."
        ) from error


def tensors(content, path: Path) -> dict[str, Tensor]:
    """``content`` as names and tensors.

    Raises:
        InputError: it is anything else.
    """
    entries = content.items() if isinstance(content, Mapping) else ()
    odd = [(name, value) for name, value in entries if not (isinstance(name, str) and isinstance(value, Tensor))]
    if entries and not odd:
        return dict(content)
    if odd:
        holds = f"{odd[0][0]!r} is of type {type(odd[0][1]).__name__}"
    else:
        holds = "it is empty" if isinstance(content, Mapping) else f"it is of type {type(content).__name__}"
    raise InputError(
        f"{path}: holds no weights ({holds}; expected names and tensors, at the top or under state_dict or model)."
    )
