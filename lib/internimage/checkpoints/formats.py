"""Read checkpoints of every published format as names and tensors of today's networks; run no code of the files."""

import pickle
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from lib.errors import InputError

WEIGHTS_KEYS = ("state_dict", "model", "module")  # of mmengine and mmcv, of public classification, of DeepSpeed
EMA_KEY = "model_ema"  # of the running average in public classification checkpoints
PREFIXES = ("module.", "model.")  # of data-parallel training, of the release for transformers
CLASSIFICATION_HEADS = ("head.", "conv_head.", "clip_projector.", "fc_norm.", "dcnv3_head_x3.", "dcnv3_head_x4.")

# mmcv 1's generic transformer layers number their parts in the order of application; mmdet 3 names the parts.
# Mask2Former's decoder attends to the image first, then to itself.
_RENAMED = (
    (re.compile(r"(\bpixel_decoder\.encoder\.layers\.\d+)\.attentions\.0\."), r"\1.self_attn."),
    (re.compile(r"(\btransformer_decoder\.layers\.\d+)\.attentions\.0\."), r"\1.cross_attn."),
    (re.compile(r"(\btransformer_decoder\.layers\.\d+)\.attentions\.1\."), r"\1.self_attn."),
    (re.compile(r"(\b(?:pixel_decoder\.encoder|transformer_decoder)\.layers\.\d+)\.ffns\.0\."), r"\1.ffn."),
    (re.compile(r"(\bblocks\.\d+)\.layer_scale([12])$"), r"\1.gamma\2"),  # the release for transformers
)

_LEVELS = 4  # of mappings around the weights; a file may hold a mapping that holds itself
_ANOTHER = "copy or download it again, give another one, or run 02_train again if it is this run's."
_ARCHIVE = b"PK\x03\x04"
_LAYER_SCALE = re.compile(r"\bblocks\.\d+\.gamma[12]$")


# mmengine's checkpoints carry a message hub, pickled under numpy 1 or 2, whose objects weights-only loading refuses.
# The real `getattr` would let a file reach into any object, so the stub replaces that one too.
_STUBBED = (
    "builtins.getattr",
    "mmengine.logging.history_buffer.HistoryBuffer",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "numpy.ndarray",
)


class _Stub:
    def __init__(self, *args):
        pass

    def __setstate__(self, state):
        pass


def weights(path: Path, ema: bool) -> tuple[dict[str, Tensor], dict[str, str], str, int]:
    """Read the weights in a file, or their running average (EMA).

    Returns:
        Weights by their names in mmseg 1 and mmdet 3, and ``left_out``, ``key`` and ``renamed`` of
        :class:`lib.internimage.checkpoints.loading.LoadReport`.

    Raises:
        InputError: the file cannot be read without running code, or has no weights or not the average.
    """
    content = read(path, _STUBBED)
    # mmengine saves the average under `state_dict` and the weights themselves under `ema_state_dict`.
    is_average = _holds_mapping(content, "ema_state_dict")
    keys = (EMA_KEY, *WEIGHTS_KEYS) if ema else (*WEIGHTS_KEYS, EMA_KEY)
    key = ""
    for _ in range(_LEVELS):
        inner = next((name for name in keys if _holds_mapping(content, name)), "")
        if not inner:
            break
        key, content = inner, content[inner]
        is_average = is_average or key == EMA_KEY
    found = _tensors(content, path)
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in found):
            found = strip(prefix, found)
    # mmcv 1 keeps the average among the weights, as buffers of flattened names.
    averages = {"ema_" + name.replace(".", "_"): name for name in found}
    buffers = {name: found.pop(name) for name in averages if name in found}
    if ema and not (is_average or buffers):
        raise InputError(f"{path}: holds no running average (EMA) of its weights; load it without asking for one.")
    if ema:
        found |= {averages[name]: tensor for name, tensor in buffers.items()}
    left_out = {} if ema else dict.fromkeys(buffers, "a running average of the weights")
    tensors = {current_name(name): tensor for name, tensor in found.items()}
    return tensors, left_out, key, len(tensors.keys() - found.keys())


def read(path: str | Path, stubbed: Iterable[str] = (), remedy: str = ""):
    """Return the content of a checkpoint, on the CPU; run no code of the file.

    Args:
        path: the file.
        stubbed: names of classes and functions whose objects become empty ones instead of being refused.
        remedy: advice where the file holds more than data; "": to convert it.

    Raises:
        InputError: the file is damaged, or holds more than data.
    """
    path = Path(path)
    if fault := damage(path):
        raise InputError(f"{path}: {fault}; {_ANOTHER}")
    try:
        mmap = bool(stubbed) and zipfile.is_zipfile(path)  # what is not an archive cannot be mapped
        with torch.serialization.safe_globals([(_Stub, name) for name in stubbed]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except Exception as error:  # torch.load raises nearly any exception for a foreign or cut file
        if isinstance(error, pickle.UnpicklingError) and (refused := re.search(r"GLOBAL (\S+)", str(error))):
            converted = path.with_name(f"{path.stem}_weights.pth")
            remedy = remedy or f"if you trust its source, convert it: fisheye convert {path} {converted}"
            found = f"holds more than weights, and reading it would run code (it asks for {refused[1]})"
            raise InputError(f"{path}: {found}; {remedy}") from None
        raise InputError(f"{path}: {_no_checkpoint(path)}; {_ANOTHER}") from error


def damage(path: Path, old_format: bool = True) -> str:
    """Return the fault of a file that is cut short or changed, "" without one.

    Archives, the format since torch 1.6, are compared with their checksums. Older files, allowed with ``old_format``,
    have none.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(_ARCHIVE)) != _ARCHIVE:
                return "" if old_format and file.read(1) else _no_checkpoint(path)
    except IsADirectoryError:
        return "a folder (expected a file written by torch.save)"
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}).") from error
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, zlib.error):
        return _no_checkpoint(path)
    return f"damaged (the checksum of its part {damaged} is another)" if damaged else ""


def _no_checkpoint(path: Path) -> str:
    return f"cut short, or not a checkpoint ({path.stat().st_size} bytes; expected a file written by torch.save)"


def _tensors(content, path: Path) -> dict[str, Tensor]:
    """Return ``content``, if it is a mapping of names to tensors."""
    fault = f"it is of type {type(content).__name__}"
    if isinstance(content, Mapping):
        odd = ((name, x) for name, x in content.items() if not (isinstance(name, str) and isinstance(x, Tensor)))
        fault = next((f"{name!r} is of type {type(value).__name__}" for name, value in odd), "")
        if content and not fault:
            return dict(content)
    raise InputError(
        f"{path}: holds no weights ({fault or 'it is empty'}; expected names and tensors, at the top or under "
        "state_dict or model)."
    )


def _holds_mapping(content, key: str) -> bool:
    return isinstance(content, Mapping) and isinstance(content.get(key), Mapping)


def has(prefix: str, names: Iterable[str]) -> bool:
    return any(name.startswith(prefix) for name in names)


def strip(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries under ``prefix``, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def current_name(name: str) -> str:
    """Return a weight's name in mmseg 1 and mmdet 3, given that name or an older one."""
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    return name


def unused(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, str]:
    """Return names in the file (``found``) that the network (``expected``) has no use for, with the reason."""
    heads = tuple(head for head in CLASSIFICATION_HEADS if not has(head, expected))
    reasons = {name: "of the classification head" for name in found if name.startswith(heads)}
    if "decode_head.cls_embed.weight" in found:
        conv_seg = [name for name in found if name.startswith("decode_head.conv_seg.") and name not in expected]
        reasons |= dict.fromkeys(conv_seg, "never used by Mask2Former")
    return reasons


def missing_layer_scale(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return ones for the network's layer scale, where the file's network has none.

    InternImage-T was pre-trained without layer scale. Its segmentation starts from factors of 1, the same network.
    """
    if any(map(_LAYER_SCALE.search, found)):
        return {}
    return {name: torch.ones_like(tensor) for name, tensor in expected.items() if _LAYER_SCALE.search(name)}
