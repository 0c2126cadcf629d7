"""Decode heads by name, for any backbone of four stages: the ``model`` part of a recipe without its backbone."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from lib.errors import InputError

HEADS = ("upernet", "segformer", "mask2former")
MASK2FORMER = "Mask2FormerLogitsHead"
"""Its class in :mod:`lib.recipes.mask2former`."""

_SCORES = ("MaskFormerHead", "Mask2FormerHead")

_BASE = Path(__file__).parent / "configs" / "_base_"


def require_mask2former() -> None:
    """Raise unless what the Mask2Former head needs is installed; nothing is imported.

    Raises:
        InputError: names what is missing and the command that installs it.
    """
    missing = [name for name in ("mmdet", "pycocotools", "shapely") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"the Mask2Former head needs mmdetection, and {', '.join(missing)} cannot be imported; run "
            "`make mask2former`, or take a recipe with another head."
        )


def gives_scores(head) -> bool:
    """Whether a decode head's result is no logit but a sum of mask probabilities, near 0 where no query claims a pixel.

    So it is with mmseg's own heads that classify masks; ours answers with logarithms, that is with logits.
    """
    return type(head).__name__ in _SCORES


def model(head: str, channels: int, classes: int, *, queries: int = 100, width: int = 256) -> dict:
    """A segmentor without its backbone: preprocessor and heads.

    Args:
        head: one of :data:`HEADS`.
        channels: of the backbone's first stage; each further stage has twice as many.
        classes: number of classes.
        queries: of Mask2Former: the most segments that one image can have.
        width: channels inside SegFormer's or Mask2Former's head; below the published backbones' 64 channels four
            times the backbone's instead, with fewer layers and points to match.
    """
    from mmengine import Config

    maps, small = [channels * 2**i for i in range(4)], channels < 64
    width = min(width, 4 * channels) if small else width
    if head == "mask2former":
        found = Config.fromfile(_BASE / "preprocessor.py").model.to_dict()
        size = dict(layers=(2, 3), points=1024) if small else {}
        return found | dict(decode_head=_mask2former(maps, classes, width, queries, **size))
    found = Config.fromfile(_BASE / f"{head}.py").model.to_dict()
    found["decode_head"] |= dict(in_channels=maps, num_classes=classes)
    if head == "segformer":
        found["decode_head"]["channels"] = width
    else:
        found["auxiliary_head"] |= dict(in_channels=maps[2], num_classes=classes)
    return found


def _mask2former(
    maps: Sequence[int],
    classes: int,
    width: int,
    queries: int,
    layers: tuple[int, int] = (6, 9),
    points: int = 12544,
) -> dict:
    """Mask2Former's decode head, with ``layers`` of deformable attention in the pixel decoder and of the decoder."""
    attention, relu = dict(embed_dims=width, num_heads=width // 32), dict(type="ReLU", inplace=True)
    encoder = dict(
        num_layers=layers[0],
        layer_cfg=dict(
            self_attn_cfg=dict(**attention, num_levels=3, num_points=4, dropout=0.0, batch_first=True),
            ffn_cfg=dict(embed_dims=width, feedforward_channels=4 * width, num_fcs=2, act_cfg=relu),
        ),
    )
    # Inside, the published decoders are eight times as wide at 256 channels, four times at 1024.
    inner = dict(embed_dims=width, feedforward_channels=min(8 * width, max(2048, 4 * width)), num_fcs=2)
    decoder = dict(
        num_layers=layers[1],
        return_intermediate=True,
        layer_cfg=dict(
            self_attn_cfg=dict(**attention, batch_first=True),
            cross_attn_cfg=dict(**attention, batch_first=True),
            ffn_cfg=dict(**inner, act_cfg=relu, add_identity=True),
        ),
    )
    position = dict(num_feats=width // 2, normalize=True)
    crossed = dict(type="mmdet.CrossEntropyLoss", reduction="mean")
    return dict(
        type=MASK2FORMER,
        in_channels=list(maps),
        strides=[4, 8, 16, 32],
        feat_channels=width,
        out_channels=width,
        num_classes=classes,
        num_queries=queries,
        num_transformer_feat_level=3,
        align_corners=False,
        pixel_decoder=dict(
            type="mmdet.MSDeformAttnPixelDecoder",
            num_outs=3,
            norm_cfg=dict(type="GN", num_groups=min(32, width // 2)),
            act_cfg=dict(type="ReLU"),
            encoder=encoder,
            positional_encoding=position,
        ),
        positional_encoding=position,
        transformer_decoder=decoder,
        # The last weight is that of "no object", which most queries are.
        loss_cls=dict(**crossed, use_sigmoid=False, loss_weight=2.0, class_weight=[1.0] * classes + [0.1]),
        loss_mask=dict(**crossed, use_sigmoid=True, loss_weight=5.0),
        loss_dice=dict(
            type="mmdet.DiceLoss",
            use_sigmoid=True,
            activate=True,
            reduction="mean",
            naive_dice=True,
            eps=1.0,
            loss_weight=5.0,
        ),
        train_cfg=dict(
            num_points=points,
            oversample_ratio=3.0,
            importance_sample_ratio=0.75,
            assigner=dict(
                type="mmdet.HungarianAssigner",
                match_costs=[
                    dict(type="mmdet.ClassificationCost", weight=2.0),
                    dict(type="mmdet.CrossEntropyLossCost", weight=5.0, use_sigmoid=True),
                    dict(type="mmdet.DiceCost", weight=5.0, pred_act=True, eps=1.0),
                ],
            ),
            sampler=dict(type="mmdet.MaskPseudoSampler"),
        ),
    )
