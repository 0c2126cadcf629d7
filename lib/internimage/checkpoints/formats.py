"""The forms in which weights are published, brought to today's names.

One file may hold the weights at its top or under a key, beside a running average (EMA) of them, with the prefixes of
what wrapped the network, and with the names of an older framework.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor, ones_like

from lib.errors import InputError
from lib.internimage.checkpoints import reading

PLAIN = ("state_dict", "model", "module")
"""Keys that weights stand under: mmengine and mmcv; the public classification code; DeepSpeed."""

AVERAGED = ("model_ema", "state_dict_ema")
"""Keys of a running average beside them: the public classification code; timm."""

HEADS = ("head.", "conv_head.", "clip_projector.", "fc_norm.", "dcnv3_head_x3.", "dcnv3_head_x4.")
"""Names that the public classification checkpoints carry on top of the backbone's."""

# Mask2Former was built of mmcv 1's generic transformer layers, which number what they consist of in the order in which
# it is applied; mmdet 3 names the parts. The decoder attends to the image first, then to itself.
_RENAMED = (
    (re.compile(r"(\bpixel_decoder\.encoder\.layers\.\d+)\.attentions\.0\."), r"\1.self_attn."),
    (re.compile(r"(\btransformer_decoder\.layers\.\d+)\.attentions\.0\."), r"\1.cross_attn."),
    (re.compile(r"(\btransformer_decoder\.layers\.\d+)\.attentions\.1\."), r"\1.self_attn."),
    (re.compile(r"(\b(?:pixel_decoder\.encoder|transformer_decoder)\.layers\.\d+)\.ffns\.0\."), r"\1.ffn."),
    (re.compile(r"(\bblocks\.\d+)\.layer_scale([12])$"), r"\1.gamma\2"),  # the release for transformers
)


_FACTOR = re.compile(r"\bblocks\.\d+\.gamma[12]$")


def weights(content, path: Path, average: bool) -> tuple[dict[str, Tensor], dict[str, str], str]:
    """The weights in what a file holds.

    Args:
        content: from :func:`lib.internimage.checkpoints.reading.read`.
        path: for messages.
        average: the running average of the weights instead of the weights.

    Returns:
        Names and tensors, without the prefixes ``module.`` and ``model.``; names that were left out, with the reason;
        the key under which they stood (``""``: at the top).

    Raises:
        InputError: no weights, or no running average where one is asked for.
    """
    key = ""
    # mmengine saves the average under `state_dict`, and the weights that it is of under `ema_state_dict`.
    mmengine = isinstance(content, Mapping) and isinstance(content.get("ema_state_dict"), Mapping)
    averaged = _keys(content, AVERAGED)
    if averaged and (average or not _keys(content, PLAIN)):
        key = averaged[0]
        content = content[key]
    while inner := _keys(content, PLAIN):
        key = inner[0]
        content = content[key]
    found = reading.tensors(content, path)
    for prefix in ("module.", "model."):  # of data-parallel training, and of the release for transformers
        if _all_have(prefix, found):
            found = strip(prefix, found)
    # mmcv 1 keeps averages among the weights, as buffers of flattened names.
    flat = {"ema_" + name.replace(".", "_"): name for name in found}
    buffers = {flat[name]: tensor for name, tensor in found.items() if name in flat}
    if average and not (averaged or mmengine or buffers):
        raise InputError(f"{path}: holds no running average (EMA) of its weights; load it without asking for one.")
    left_out = {name: "a running average of the weights" for name in found if name in flat}
    found = {name: tensor for name, tensor in found.items() if name not in flat}
    if average and buffers:
        found, left_out = found | buffers, {}
    return found, left_out, key


def _keys(content, keys: Iterable[str]) -> list[str]:
    return [key for key in keys if isinstance(content, Mapping) and isinstance(content.get(key), Mapping)]


def _all_have(prefix: str, names: Iterable[str]) -> bool:
    return all(name.startswith(prefix) for name in names)


def has(prefix: str, names: Iterable[str]) -> bool:
    """Whether any of the names begins so."""
    return any(name.startswith(prefix) for name in names)


def strip(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries under ``prefix``, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def current_name(name: str) -> str:
    """A weight's name in the public code under mmseg 1 and mmdet 3, given that in an older form (or today's)."""
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    return name


def missing_factors(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Ones for the factors on the branches (``layer_scale``), where the file's network has none.

    InternImage-T was pre-trained without them and is segmented with factors that start at 1, which is the same network.
    """
    if any(_FACTOR.search(name) for name in found):
        return {}
    return {name: ones_like(tensor) for name, tensor in wanted.items() if _FACTOR.search(name)}
