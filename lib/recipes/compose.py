"""Recipes composed from their name: ``HEAD_internimage_VARIANT[_DATA][_HxW][_Nk]``, or ``FILE_HEAD``.

Values are those of the public segmentation configs; a combination that was never published takes those of its parts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lib.recipes import heads
from lib.recipes.datasets import DATA

if TYPE_CHECKING:  # importing mmengine takes seconds
    from mmengine import Config


@dataclass(frozen=True)
class _Training:
    """Training settings of a variant in the public configs of its UperNet."""

    side: int  # of the square ADE20K crop, in pixels
    lr: float
    layer_decay_rate: float
    clip: bool  # gradients


_LARGE = _Training(896, 2e-5, 0.95, clip=True)
TRAINING = {
    **dict.fromkeys(("t", "s", "b"), _Training(512, 6e-5, 1.0, clip=False)),
    **dict.fromkeys(("l", "xl"), _Training(640, 2e-5, 0.94, clip=True)),
    **dict.fromkeys(("h", "g"), _LARGE),
}

FORM = (
    f"HEAD_internimage_VARIANT[_DATA][_HxW][_Nk] (HEAD: {', '.join(heads.HEADS)}; VARIANT: {', '.join(TRAINING)}; "
    f"DATA: {', '.join(DATA)}; a crop of H by W pixels; N thousand iterations)"
)
_NAME = re.compile(
    rf"(?P<head>{'|'.join(heads.HEADS)})_internimage_(?P<variant>{'|'.join(TRAINING)})"
    rf"(?:_(?P<data>{'|'.join(DATA)}))?(?:_(?P<height>\d+)x(?P<width>\d+))?(?:_(?P<thousands>\d+)k)?"
)


@dataclass(frozen=True)
class Parts:
    """Parts of a recipe; :func:`str` gives its name."""

    head: str
    variant: str
    data: str
    crop_size: tuple[int, int]  # (height, width) in pixels
    max_iters: int

    def __str__(self) -> str:
        data = "" if self.data == "competition" else f"_{self.data}"
        size = "x".join(map(str, self.crop_size))
        return f"{self.head}_internimage_{self.variant}{data}_{size}_{self.max_iters // 1000}k"


def parts(head: str, variant: str, data: str = "competition") -> Parts:
    """Return a combination with the crop and the length that it, or a similar one, was published with."""
    large = head == "mask2former" and TRAINING[variant] is _LARGE
    side = TRAINING[variant].side
    crop = (side, side) if data == "ade20k" else (1024, 1024) if large else (512, 1024)
    return Parts(head, variant, data, crop, 80_000 if head == "mask2former" else 160_000)


def parse(name: str) -> Parts | None:
    """Return the parts in a name; ``None`` if it does not have the form :data:`FORM`."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    usual = parts(match["head"], match["variant"], match["data"] or "competition")
    crop = (int(match["height"]), int(match["width"])) if match["height"] else usual.crop_size
    length = 1000 * int(match["thousands"]) if match["thousands"] else usual.max_iters
    return replace(usual, crop_size=crop, max_iters=length) if length and all(crop) else None


def compose(chosen: Parts) -> Config:
    """Return the recipe of these parts."""
    from mmengine import Config

    from lib.internimage.variants import VARIANTS  # importing mmseg takes seconds

    training, data, arguments = TRAINING[chosen.variant], DATA[chosen.data], VARIANTS[chosen.variant]
    # As published on InternImage-H: a large head for ADE20K, mmseg's usual size for Cityscapes.
    large = chosen.head == "mask2former" and training is _LARGE and chosen.data == "ade20k"
    size = dict(width=1024, queries=200) if large else {}
    model = heads.model(chosen.head, arguments["channels"], data.classes, **size)
    defaults = dict(mlp_ratio=4.0, layer_scale=None, offset_scale=1.0, post_norm=False)
    backbone = dict(type="InternImage", **defaults | arguments, with_cp=chosen.variant == "g", out_indices=(0, 1, 2, 3))
    backbone |= {name: list(arguments[name]) for name in ("depths", "groups")}
    model["backbone"] = backbone
    height, width = chosen.crop_size
    if data.windows:
        share = 1 / 2 if chosen.head == "mask2former" else 2 / 3
        stride = (round(height * share), round(width * share))
        model["test_cfg"] = dict(mode="slide", crop_size=chosen.crop_size, stride=stride)
    schedule = Config.fromfile(heads.BASE / "adamw_poly.py").to_dict()
    depths = backbone["depths"]
    decay = dict(num_layers=sum(depths), layer_decay_rate=training.layer_decay_rate, depths=depths)
    optimisation = schedule["optim_wrapper"]
    optimisation.update(constructor="LayerDecayOptimWrapperConstructor", paramwise_cfg=decay)
    optimisation["optimizer"]["lr"] = training.lr
    _tune(optimisation, chosen.head, training.clip)
    recipe = dict(
        **schedule,
        model=model,
        scale=(2048, 1024) if data.windows else (4 * height, height),
        ratio_range=(0.5, 2.0),
        crop_size=chosen.crop_size,
        batch_size=2,
        num_workers=4,
        max_iters=chosen.max_iters,
        warmup_iters=min(1500, chosen.max_iters // 10),
        val_interval=chosen.max_iters // 20,
    )
    return Config(recipe if chosen.data == "competition" else recipe | dict(data_kind=chosen.data))


def _tune(optimisation: dict, head: str, clip: bool) -> None:
    """Set learning rate and clipping: Mask2Former learns at half the rate of other heads, with clipped gradients."""
    if head == "mask2former":
        optimisation["optimizer"]["lr"] *= 0.5
    if clip or head == "mask2former":
        optimisation["clip_grad"] = dict(max_norm=0.1, norm_type=2)


def replace_head(recipe: Config, head: str) -> Config:
    """Return the recipe with another of :data:`lib.recipes.heads.HEADS` on its backbone."""
    before = recipe.model
    model = heads.model(head, before.backbone.channels, before.decode_head.num_classes)
    if head != "mask2former":
        model["decode_head"]["dropout_ratio"] = before.decode_head.get("dropout_ratio", 0.1)
    recipe.model = dict(model, backbone=before.backbone, test_cfg=before.test_cfg)
    _tune(recipe.optim_wrapper, head, clip=False)
    return recipe
