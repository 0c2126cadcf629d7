"""Weights from a file into a network: all of them in the right shape, or one sentence that says what is wrong.

Files are read weights-only, so nothing in them is executed. mmengine's own training checkpoints carry a
message hub whose objects weights-only reading refuses; those few names are replaced by an inert stand-in.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lib.runs import InputError

HEADS = ("head.", "conv_head.", "clip_projector.", "fc_norm.", "dcnv3_head_x3.", "dcnv3_head_x4.")
"""Names that the public classification checkpoints carry on top of the backbone's."""


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


@dataclass(frozen=True)
class LoadReport:
    """What :func:`load_weights` did."""

    path: Path
    loaded: int
    """How many parameters and buffers now hold the file's values."""
    dropped: tuple[str, ...]
    """Names in the file that belong to a part the network does not have: a classifier, or a decode head."""
    kept: tuple[str, ...]
    """Names of the network that the file does not have and that kept their values (see ``allow_backbone``)."""


def load_weights(module: nn.Module, path: str | Path, *, allow_backbone: bool = False) -> LoadReport:
    """Load a local checkpoint into ``module``; nothing is changed unless everything fits.

    A file holds names and tensors, at its top or under ``state_dict`` or ``model``; the prefix ``module.`` is
    ignored. Into a backbone goes the ``backbone.`` part of a segmentation checkpoint, or a classification
    checkpoint without its classifier.

    Args:
        module: a backbone, or a segmentor with a ``backbone``.
        path: file written by ``torch.save``.
        allow_backbone: a segmentor may be given the weights of its backbone alone and keep its heads.

    Raises:
        InputError: the file cannot be read, holds no weights, or holds those of another network.
    """
    path = Path(path)
    wanted, found = module.state_dict(), read_tensors(path)
    found = _strip("module.", found) if all(name.startswith("module.") for name in found) else found
    kept: tuple[str, ...] = ()
    dropped: list[str] = []
    if _has("backbone.", found) and not _has("backbone.", wanted):
        dropped = [name for name in found if not name.startswith("backbone.")]
        found = _strip("backbone.", found)
    elif allow_backbone and _has("backbone.", wanted) and not _has("backbone.", found):
        kept = tuple(name for name in wanted if not name.startswith("backbone."))
        module, wanted = module.get_submodule("backbone"), _strip("backbone.", wanted)
    classifier = [name for name in found if name.startswith(HEADS) and not _has(name.split(".")[0] + ".", wanted)]
    dropped += classifier
    found = {name: tensor for name, tensor in found.items() if name not in set(classifier)}
    _compare(path, wanted, found)
    module.load_state_dict(found)
    return LoadReport(path, len(found), tuple(dropped), kept)


def _has(prefix: str, names: Iterable[str]) -> bool:
    return any(name.startswith(prefix) for name in names)


def _strip(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries under ``prefix``, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Names and tensors in a checkpoint.

    Raises:
        InputError: the file cannot be read, or holds no weights.
    """
    return _names_and_tensors(_read(Path(path)), Path(path))


def _read(path: Path):
    """What ``torch.load`` makes of the file, without running anything in it."""
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
                f"{path}: holds more than weights, and reading it would run code (it asks for {refused[1]}); save its "
                "state_dict alone with torch.save, on a machine where the file is trusted."
            ) from None
        raise InputError(
            f"{path}: cut short, or not a checkpoint ({path.stat().st_size} bytes; expected a file written by "
            "torch.save); copy or download it again."
        ) from error


def _names_and_tensors(content, path: Path) -> dict[str, Tensor]:
    """The weights in what a checkpoint file holds."""
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
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


def _compare(path: Path, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raise unless both have the same names and shapes."""
    resized = [name for name in wanted if name in found and wanted[name].shape != found[name].shape]
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    if not (resized or missing or extra):
        return
    if resized:
        name = resized[0]
        example = f"{name} is {tuple(found[name].shape)} there and {tuple(wanted[name].shape)} in the network"
    elif missing:
        example = f"{missing[0]} {tuple(wanted[missing[0]].shape)} of the network is not there"
    else:
        example = f"{extra[0]} {tuple(found[extra[0]].shape)} has no place in the network"
    wrong = [*resized, *missing, *extra]
    if _has("backbone.", wanted) and all(f"backbone.{name}" in wanted for name in found):
        kind = "holds a backbone alone"
    elif len(missing) == len(wanted):
        kind = "is a checkpoint of another kind of network"
    elif _has("backbone.", wanted) and not _has("backbone.", wrong):
        kind = "fits the network's backbone, but not its heads"
    else:
        kind = "looks like a checkpoint of another variant"
    raise InputError(
        f"{path}: {kind} ({example}; of the network's {len(wanted)} weights {len(resized)} have another shape and "
        f"{len(missing)} are missing, and {len(extra)} of the file's are left over); give the one of this network."
    )
