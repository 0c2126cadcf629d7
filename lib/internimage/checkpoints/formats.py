"""Formats of published checkpoints, converted to names and tensors of today's networks.

A file holds the weights at its top or under a key, sometimes beside a running average (EMA) of them. Names can carry
the prefix of a wrapper, or be those of an older framework. A new format belongs here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, ones_like

from lib.errors import InputError
from lib.internimage.checkpoints import reading

WEIGHTS_KEYS = ("state_dict", "model", "module")
"""Keys of the weights: of mmengine and mmcv, of the public classification code, of DeepSpeed."""

EMA_KEY = "model_ema"
"""Key of their running average in checkpoints of the public classification code."""

PREFIXES = ("module.", "model.")
"""Prefixes of data-parallel training, and of the release for transformers."""

CLASSIFICATION_HEADS = ("head.", "conv_head.", "clip_projector.", "fc_norm.", "dcnv3_head_x3.", "dcnv3_head_x4.")
"""Prefixes of the classifier's weights in public classification checkpoints."""

# mmcv 1's generic transformer layers number their parts in the order of application; mmdet 3 names the parts.
# Mask2Former's decoder attends to the image first, then to itself.
_RENAMED = (
    (re.compile(r"(\bpixel_decoder\.encoder\.layers\.\d+)\.attentions\.0\."), r"\1.self_attn."),
    (re.compile(r"(\btransformer_decoder\.layers\.\d+)\.attentions\.0\."), r"\1.cross_attn."),
    (re.compile(r"(\btransformer_decoder\.layers\.\d+)\.attentions\.1\."), r"\1.self_attn."),
    (re.compile(r"(\b(?:pixel_decoder\.encoder|transformer_decoder)\.layers\.\d+)\.ffns\.0\."), r"\1.ffn."),
    (re.compile(r"(\bblocks\.\d+)\.layer_scale([12])$"), r"\1.gamma\2"),  # the release for transformers
)

_LAYER_SCALE = re.compile(r"\bblocks\.\d+\.gamma[12]$")


@dataclass(frozen=True)
class Weights:
    """Weights of a checkpoint by their names in mmseg 1 and mmdet 3."""

    tensors: dict[str, Tensor]
    left_out: dict[str, str] = field(default_factory=dict)
    """Names in the file that are no weights of the network, with the reason."""
    key: str = ""
    """Key of the weights in the file; empty: they are at its top."""
    renamed: int = 0
    """Number of names that were those of an older framework."""


def weights(content, path: Path, ema: bool) -> Weights:
    """Extract the weights from a file's content.

    Args:
        content: from :func:`lib.internimage.checkpoints.reading.read`.
        path: of the file, for messages.
        ema: extract the running average instead of the weights.

    Raises:
        InputError: no weights, or no running average although ``ema`` asks for it.
    """
    key = ""
    # mmengine saves the average under `state_dict` and the weights themselves under `ema_state_dict`.
    is_average = _mapping(content, "ema_state_dict")
    if _mapping(content, EMA_KEY) and (ema or not _weights_key(content)):
        key, is_average = EMA_KEY, True
        content = content[key]
    while inner := _weights_key(content):
        key = inner
        content = content[key]
    found = reading.tensors(content, path)
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in found):
            found = strip(prefix, found)
    # mmcv 1 keeps the average among the weights, as buffers of flattened names.
    averages = {"ema_" + name.replace(".", "_"): name for name in found}
    buffers = {name: tensor for name, tensor in found.items() if name in averages}
    if ema and not (is_average or buffers):
        raise InputError(f"{path}: holds no running average (EMA) of its weights; load it without asking for one.")
    plain = {name: tensor for name, tensor in found.items() if name not in buffers}
    if ema:
        plain |= {averages[name]: tensor for name, tensor in buffers.items()}
    left_out = {} if ema else dict.fromkeys(buffers, "a running average of the weights")
    tensors = {current_name(name): tensor for name, tensor in plain.items()}
    return Weights(tensors, left_out, key, len(tensors.keys() - plain.keys()))


def _mapping(content, key: str) -> bool:
    return isinstance(content, Mapping) and isinstance(content.get(key), Mapping)


def _weights_key(content) -> str:
    return next((key for key in WEIGHTS_KEYS if _mapping(content, key)), "")


def has(prefix: str, names: Iterable[str]) -> bool:
    """Return whether any name begins with ``prefix``."""
    return any(name.startswith(prefix) for name in names)


def strip(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries under ``prefix``, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def current_name(name: str) -> str:
    """Return a weight's name under mmseg 1 and mmdet 3, given that name or an older one."""
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    return name


def unused(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, str]:
    """Return names in the file that the network has no use for, with the reason.

    Args:
        expected: names and tensors of the network.
        found: names and tensors of the file.
    """
    reasons = {}
    for name in found:
        head = next((head for head in CLASSIFICATION_HEADS if name.startswith(head)), None)
        if head and not has(head, expected):
            reasons[name] = "of the classification head"
        elif name.startswith("decode_head.conv_seg.") and name not in expected:
            if "decode_head.cls_embed.weight" in found:
                reasons[name] = "never used by Mask2Former"
    return reasons


def missing_layer_scale(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return ones for the network's layer scale, where the file's network has none.

    InternImage-T was pre-trained without layer scale. Its segmentation starts from factors of 1, the same network.
    """
    if any(_LAYER_SCALE.search(name) for name in found):
        return {}
    return {name: ones_like(tensor) for name, tensor in expected.items() if _LAYER_SCALE.search(name)}
