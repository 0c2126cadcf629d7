"""Layer-wise learning rate decay: rates that fall from the last block of the backbone to the first.

Groups and scales equal those of the public ``CustomLayerDecayOptimizerConstructor``, its oddities included, so a public
config trains as it did there.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

_STEM_RATE = (
    "backbone.patch_embed",
    "decode_head.mask_embed",
    "decode_head.cls_embed",
    "decode_head.level_embed",
    "decode_head.query_embed",
    "decode_head.query_feat",
)
"""Prefixes of parameters with the stem's rate; in the public code the head's embeddings are among them."""

_OPTIONS = {"num_layers", "layer_decay_rate", "depths", "backbone_small_lr", "offset_lr_scale"}


def layer_of(name: str, depths: Sequence[int]) -> int:
    """Return the layer of a segmentor's parameter, from 0 (stem) to ``sum(depths) + 1`` (heads).

    Args:
        name: as in ``named_parameters()``.
        depths: number of blocks, per stage of the backbone.
    """
    if name.startswith(_STEM_RATE) or "level_embeds" in name:
        return 0
    if not name.startswith("backbone.levels."):
        return sum(depths) + 1
    _, _, stage, part, *rest = name.split(".")
    before = sum(depths[: int(stage)])
    if part in ("downsample", "norm"):
        # The end of a stage has the rate of the next stage's first block; in the last stage, of its own first block.
        return 1 + (before if int(stage) == len(depths) - 1 else before + depths[int(stage)])
    # As in the public code, the k-th of a stage's post_norms has the rate of block k, wherever it is applied.
    return 1 + before + int(rest[0])


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Parameter groups with a learning rate per layer; one-dimensional parameters and norms have no weight decay.

    The rate of layer i of L (heads: L) is ``lr · layer_decay_rate^(L - i)``. As in the public code, groups have the
    entries ``lr``, ``weight_decay``, ``lr_scale``, ``group_name`` and ``param_names``.

    Args:
        optim_wrapper_cfg: has an ``optimizer`` with ``lr`` and ``weight_decay``.
        paramwise_cfg:
            - ``num_layers``: number of blocks, the sum of ``depths``.
            - ``layer_decay_rate``: factor from one block to the one before.
            - ``depths``: number of blocks, per stage.
            - ``backbone_small_lr``: divide the rate by ten wherever the factor is below 1.
            - ``offset_lr_scale``: factor on the backbone's ``sampling_offsets`` and ``reference_points``. InternImage
              has none, neither here nor in the public code: its offsets are called ``offset``.

    Raises:
        ValueError: a missing or unknown entry, or ``num_layers`` is not the sum of ``depths``.

    Source: InternImage's public segmentation code, after BEiT's (Bao et al., ICLR 2022).
    """

    def _validate_cfg(self) -> None:
        super()._validate_cfg()
        options = self.paramwise_cfg
        missing = {"num_layers", "layer_decay_rate", "depths"} - options.keys()
        unknown = options.keys() - _OPTIONS
        if missing or unknown:
            found = f"without {', '.join(sorted(missing))}" if missing else f"with {', '.join(sorted(unknown))}"
            raise ValueError(f"paramwise_cfg: {found} (expected entries: {', '.join(sorted(_OPTIONS))})")
        if options["num_layers"] != sum(options["depths"]):
            expected = f"{sum(options['depths'])}, the sum of depths"
            raise ValueError(f"paramwise_cfg: num_layers {options['num_layers']} (expected {expected})")
        if self.base_lr is None or self.base_wd is None:
            raise ValueError("optimizer: lr or weight_decay is missing (expected both)")

    def add_params(self, params: list[dict], module: nn.Module, **kwargs) -> None:
        """Append to ``params`` the groups of all parameters of ``module`` that need a gradient."""
        groups: dict[str, dict] = {}
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            plain = parameter.ndim == 1 or name.endswith(".bias")
            decays = not plain and not any(part in name for part in ("norm", "relative_position", "sampling_offsets"))
            layer = layer_of(name, self.paramwise_cfg["depths"])
            offset = "backbone" in name and ("sampling_offsets" in name or "reference_points" in name)
            group_name = f"layer_{layer}_{'decay' if decays else 'no_decay'}{'_offset_lr_scale' if offset else ''}"
            if group_name not in groups:
                scale = self._scale(layer, offset)
                groups[group_name] = dict(
                    params=[],
                    param_names=[],
                    group_name=group_name,
                    lr_scale=scale,
                    lr=scale * self.base_lr,
                    weight_decay=self.base_wd if decays else 0.0,
                )
            groups[group_name]["params"].append(parameter)
            groups[group_name]["param_names"].append(name)
        params.extend(groups.values())

    def _scale(self, layer: int, offset: bool) -> float:
        options = self.paramwise_cfg
        scale = options["layer_decay_rate"] ** (options["num_layers"] + 1 - layer)
        if scale < 1 and options.get("backbone_small_lr", False):
            scale *= 0.1
        return scale * options.get("offset_lr_scale", 1.0) if offset else scale
