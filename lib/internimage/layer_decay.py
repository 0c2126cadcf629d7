"""Layer-wise learning rate decay: rates that fall from the last block of the backbone to the first.

Groups and scales equal those of the public ``CustomLayerDecayOptimizerConstructor``, its oddities included, so a public
config trains as it did there.
"""

import re
from collections.abc import Sequence

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

# In the public code the head's embeddings have the stem's rate.
_STEM_RATE = re.compile(r"backbone\.patch_embed|decode_head\.((mask|cls|level|query)_embed|query_feat)|.*level_embeds")
_REQUIRED = {"num_layers", "layer_decay_rate", "depths"}
_OPTIONS = _REQUIRED | {"backbone_small_lr", "offset_lr_scale"}


def layer_of(name: str, depths: Sequence[int]) -> int:
    """Return the layer of a segmentor's parameter, from 0 (stem) to ``sum(depths) + 1`` (heads)."""
    if _STEM_RATE.match(name):
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

    The rate of layer i of L (heads: L) is ``lr · layer_decay_rate^(L - i)``.

    Args:
        optim_wrapper_cfg: has an ``optimizer`` with ``lr`` and ``weight_decay``.
        paramwise_cfg: ``depths`` (number of blocks, per stage), ``num_layers`` (their sum), ``layer_decay_rate``, and
            optionally ``backbone_small_lr`` (divide the rate by ten wherever the factor is below 1) and
            ``offset_lr_scale`` (factor on the backbone's ``sampling_offsets`` and ``reference_points``; InternImage has
            none, neither here nor in the public code: its offsets are called ``offset``).

    Raises:
        ValueError: a missing or unknown entry, or ``num_layers`` is not the sum of ``depths``.

    Source: InternImage's public segmentation code, after BEiT's (Bao et al., ICLR 2022).
    """

    def _validate_cfg(self) -> None:
        super()._validate_cfg()
        options = self.paramwise_cfg
        faults = [f"without {name}" for name in sorted(_REQUIRED - options.keys())]
        faults += [f"with {name}" for name in sorted(options.keys() - _OPTIONS)]
        if faults:
            raise ValueError(f"paramwise_cfg: {', '.join(faults)} (expected entries: {', '.join(sorted(_OPTIONS))})")
        if options["num_layers"] != (blocks := sum(options["depths"])):
            raise ValueError(
                f"paramwise_cfg: num_layers {options['num_layers']} (expected {blocks}, the sum of depths)"
            )
        if self.base_lr is None or self.base_wd is None:
            raise ValueError("optimizer: lr or weight_decay is missing (expected both)")

    def add_params(self, params: list[dict], module: nn.Module, **kwargs) -> None:
        """Append to ``params`` the groups of all parameters of ``module`` that need a gradient."""
        options = self.paramwise_cfg
        groups: dict[str, dict] = {}
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            kept = ("norm", "relative_position", "sampling_offsets")
            decays = parameter.ndim != 1 and not name.endswith(".bias") and not any(part in name for part in kept)
            layer = layer_of(name, options["depths"])
            scale = options["layer_decay_rate"] ** (options["num_layers"] + 1 - layer)
            if scale < 1 and options.get("backbone_small_lr", False):
                scale *= 0.1
            group_name = f"layer_{layer}_{'decay' if decays else 'no_decay'}"
            if "backbone" in name and ("sampling_offsets" in name or "reference_points" in name):
                group_name += "_offset_lr_scale"
                scale *= options.get("offset_lr_scale", 1.0)
            group = groups.setdefault(group_name, dict(params=[], param_names=[], group_name=group_name))
            group.update(lr_scale=scale, lr=scale * self.base_lr, weight_decay=self.base_wd if decays else 0.0)
            group["params"].append(parameter)
            group["param_names"].append(name)
        params.extend(groups.values())
