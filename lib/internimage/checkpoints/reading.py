"""Read a checkpoint file without running code that it holds.

mmengine's training checkpoints carry a message hub whose objects weights-only loading refuses. An inert stub replaces
those few names; a file that needs more is refused. :mod:`lib.tools.convert` converts such a file if it is trusted.
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


class _Stub:
    """Replaces objects beside the weights: accepts any arguments and state, does nothing."""

    def __init__(self, *args):
        pass

    def __setstate__(self, state):
        pass


# Names in mmengine's message hub, pickled under numpy 1 and 2. The real `getattr` would let a file reach into any
# object, so the stub replaces that one too.
_STUBBED: list = [
    (_Stub, name)
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
    """Return the content of a file written by ``torch.save``, loaded weights-only onto the CPU.

    Raises:
        InputError: there is no such file, it cannot be read, or reading it would run code.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file (expected a checkpoint written by torch.save).")
    try:
        mmap = zipfile.is_zipfile(path)  # the format before torch 1.6 is no archive and cannot be mapped
        with torch.serialization.safe_globals(_STUBBED):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except Exception as error:  # torch.load raises nearly any exception for a foreign or cut file
        if isinstance(error, pickle.UnpicklingError) and (refused := re.search(r"GLOBAL (\S+)", str(error))):
            raise InputError(
                f"{path}: holds more than weights, and reading it would run code (it asks for {refused[1]}); if you "
                f"trust its source, convert it: fisheye convert {path} {path.with_name(path.stem + '_weights.pth')}"
            ) from None
        raise InputError(
            f"{path}: cut short, or not a checkpoint ({path.stat().st_size} bytes; expected a file written by "
            "torch.save); copy or download it again."
        ) from error


def tensors(content, path: Path) -> dict[str, Tensor]:
    """Return ``content`` as a dict of names and tensors.

    Raises:
        InputError: ``content`` is anything else; the message names ``path``.
    """
    entries = content.items() if isinstance(content, Mapping) else ()
    odd = [(name, value) for name, value in entries if not (isinstance(name, str) and isinstance(value, Tensor))]
    if entries and not odd:
        return dict(content)
    if odd:
        found = f"{odd[0][0]!r} is of type {type(odd[0][1]).__name__}"
    else:
        found = "it is empty" if isinstance(content, Mapping) else f"it is of type {type(content).__name__}"
    raise InputError(
        f"{path}: holds no weights ({found}; expected names and tensors, at the top or under state_dict or model)."
    )
