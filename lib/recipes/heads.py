"""Decode heads by name, for any backbone of four stages."""

import importlib.util
from pathlib import Path

from lib.errors import InputError

BASE = Path(__file__).parent / "configs" / "_base_"
HEADS = ("upernet", "segformer", "mask2former")
MASK2FORMER = "Mask2FormerLogitsHead"
"""Class of the Mask2Former head in :mod:`lib.recipes.mask2former`."""


def require_mask2former() -> None:
    """Raise InputError unless the packages of the Mask2Former head are installed; imports nothing."""
    missing = [name for name in ("mmdet", "pycocotools", "shapely") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"the Mask2Former head needs mmdetection, and {', '.join(missing)} cannot be imported; run "
            "`make mask2former`, or take a recipe with another head."
        )


def gives_scores(head) -> bool:
    """Return whether a decode head answers with sums of mask probabilities instead of logits.

    mmseg's own mask classifiers do: near 0 where no query covers a pixel. Ours answers with their logarithm.
    """
    return type(head).__name__ in ("MaskFormerHead", "Mask2FormerHead")


def model(head: str, channels: int, classes: int, *, queries: int = 100, width: int = 256) -> dict:
    """Return the ``model`` of a recipe without its backbone: preprocessor and heads.

    Args:
        head: one of :data:`HEADS`.
        channels: channels of the backbone's first stage; each further stage has twice as many.
        queries: Mask2Former's queries, the most segments that one image can have.
        width: channels inside SegFormer's or Mask2Former's head; on backbones of less than 64 channels at most four
            times those.
    """
    from mmengine import Config

    maps = [channels * 2**i for i in range(4)]
    width = min(width, 4 * channels) if channels < 64 else width
    segmentor = Config.fromfile(BASE / "upernet.py").model.to_dict()
    decode, auxiliary = segmentor["decode_head"], segmentor.pop("auxiliary_head")
    decode |= dict(in_channels=maps, num_classes=classes)
    if head == "upernet":
        segmentor["auxiliary_head"] = auxiliary | dict(in_channels=maps[2], num_classes=classes)
    elif head == "segformer":
        del decode["pool_scales"]
        decode |= dict(type="SegformerHead", channels=width)
    else:
        segmentor["decode_head"] = _mask2former(maps, classes, width, queries)
    return segmentor


def _mask2former(maps: list[int], classes: int, width: int, queries: int) -> dict:
    """Return mmseg's published Mask2Former head in another width; narrow heads have fewer layers and points."""
    import mmseg
    from mmengine import Config

    folder = Path(mmseg.__file__).parent / ".mim" / "configs" / "mask2former"
    file = folder / "mask2former_r50_8xb2-90k_cityscapes-512x1024.py"
    head = Config.fromfile(file, import_custom_modules=False).model.decode_head.to_dict()
    head.update(type=MASK2FORMER, in_channels=maps, num_classes=classes, num_queries=queries)
    head.update(feat_channels=width, out_channels=width)
    head["loss_cls"]["class_weight"] = [1.0] * classes + [0.1]  # the last is "no object", which most queries are
    pixels, decoder = head["pixel_decoder"], head["transformer_decoder"]
    pixels["norm_cfg"]["num_groups"] = min(32, width // 2)
    for position in (head["positional_encoding"], pixels["positional_encoding"]):
        position["num_feats"] = width // 2
    encoder_layer, decoder_layer = pixels["encoder"]["layer_cfg"], decoder["layer_cfg"]
    for part in [*encoder_layer.values(), *decoder_layer.values()]:
        part["embed_dims"] = width
        if "num_heads" in part:
            part["num_heads"] = width // 32
    encoder_layer["ffn_cfg"]["feedforward_channels"] = 4 * width
    # Published decoders have eight times the width at 256 channels, four times at 1024.
    decoder_layer["ffn_cfg"]["feedforward_channels"] = min(8 * width, max(2048, 4 * width))
    if width < 256:
        pixels["encoder"]["num_layers"], decoder["num_layers"] = 2, 3
        head["train_cfg"]["num_points"] = 1024
    return head
