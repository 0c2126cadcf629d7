"""The InternImage backbone, for mmsegmentation configs: ``dict(type="InternImage", ...)``.

Argument names and state-dict names are those of the public code, so its configs and checkpoints keep working.
"""

from collections.abc import Sequence
from typing import Any, Self

from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from lib.internimage.blocks import Block, Downsample, Stage, Stem
from lib.internimage.checkpoints.loading import load_weights
from ops_dcnv3 import DCNv3


@MODELS.register_module()
class InternImage(BaseModule):
    """InternImage: images ``(N, 3, H, W)`` to one map ``(N, channels · 2^i, H / (4·2^i), W / (4·2^i))`` per stage i.

    :data:`lib.internimage.variants.VARIANTS` holds the arguments of the published networks.

    Args:
        channels: channels of the first stage; each further stage has twice as many.
        depths, groups: number of blocks, and of DCNv3's groups, per stage.
        mlp_ratio: hidden width of the MLPs over their outer width.
        drop_rate: dropout after the stem and in the MLPs, 0 to 1.
        drop_path_rate: probability of leaving out a branch (stochastic depth), 0 to below 1.
        drop_path_type: ``"linear"``: from 0 to ``drop_path_rate`` with depth; ``"uniform"``: the same in all blocks.
        act_layer, norm_layer: see :mod:`ops_dcnv3.layers`; the blocks' own norms are always ``"LN"``.
        layer_scale: initial value of the learned factors on the branches; ``None``: no factors.
        offset_scale, dw_kernel_size, center_feature_scale, remove_center: see :class:`ops_dcnv3.DCNv3`. With
            ``center_feature_scale`` the stages' maps are normalised even if ``post_norm`` is set.
        post_norm: normalise the branches' results instead of their inputs.
        level2_post_norm, level2_post_norm_block_ids: normalise the third stage's map after these blocks.
        res_post_norm: normalise the branches' results as well; excludes ``post_norm`` and ``layer_scale``.
        with_cp: activation checkpointing: recompute blocks in the backward pass, which saves memory and costs time.
        out_indices: stages whose maps are returned.
        frozen_stages: -1: none; 0: the stem; k: the stem and the first k stages. Frozen parts get no gradient and stay
            in evaluation mode.
        init_cfg: ``None``, or ``dict(type="Pretrained", checkpoint=source)``, which ``init_weights`` loads.

    Raises:
        ValueError: arguments that contradict each other; the message names the one to change.

    Source: Wang et al., "InternImage", CVPR 2023, and its public code.
    """

    def __init__(
        self,
        core_op: str = "DCNv3",
        channels: int = 64,
        depths: Sequence[int] = (3, 4, 18, 5),
        groups: Sequence[int] = (3, 6, 12, 24),
        mlp_ratio: float = 4.0,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.2,
        drop_path_type: str = "linear",
        act_layer: str = "GELU",
        norm_layer: str = "LN",
        layer_scale: float | None = None,
        offset_scale: float = 1.0,
        post_norm: bool = False,
        dw_kernel_size: int | None = None,
        level2_post_norm: bool = False,
        level2_post_norm_block_ids: Sequence[int] | None = None,
        res_post_norm: bool = False,
        center_feature_scale: bool = False,
        remove_center: bool = False,
        with_cp: bool = False,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        self.out_indices, self.frozen_stages = tuple(out_indices), frozen_stages
        count, third = len(depths), sum(depths[2:3])
        post_norm_block_ids = tuple(level2_post_norm_block_ids or ()) if level2_post_norm else ()
        fits = not level2_post_norm or (post_norm_block_ids and set(post_norm_block_ids) <= set(range(third)))
        exclusive = not res_post_norm or (layer_scale is None and not post_norm)
        pretrained = init_cfg is None or (init_cfg.get("type") == "Pretrained" and "checkpoint" in init_cfg)
        for name, found, valid, expected in (
            ("core_op", core_op, core_op == "DCNv3", "'DCNv3'"),
            ("depths", depths, all(depth > 0 for depth in depths), "one block or more per stage"),
            ("drop_path_rate", drop_path_rate, 0 <= drop_path_rate < 1, "from 0 to below 1"),
            ("groups", groups, len(groups) == count, f"one for each of the {count} stages"),
            ("out_indices", out_indices, set(out_indices) <= set(range(count)), f"0 to {count - 1}"),
            ("frozen_stages", frozen_stages, -1 <= frozen_stages <= count, f"-1 to {count}"),
            ("drop_path_type", drop_path_type, drop_path_type in ("linear", "uniform"), "linear or uniform"),
            ("res_post_norm", res_post_norm, exclusive, "False with post_norm or layer_scale"),
            ("level2_post_norm_block_ids", level2_post_norm_block_ids, fits, f"0 to {third - 1}, in the third stage"),
            ("init_cfg", init_cfg, pretrained, "dict(type='Pretrained', checkpoint=path)"),
        ):
            if not valid:
                raise ValueError(f"{name}: {found!r} (expected {expected})")

        self.patch_embed = Stem(channels, act_layer, norm_layer)
        self.pos_drop = nn.Dropout(drop_rate)
        block: dict[str, Any] = dict(
            mlp_ratio=mlp_ratio,
            drop=drop_rate,
            post_norm=post_norm,
            res_post_norm=res_post_norm,
            layer_scale=layer_scale,
            with_cp=with_cp,
            act_layer=act_layer,
            norm_layer=norm_layer,
            dw_kernel_size=dw_kernel_size,
            offset_scale=offset_scale,
            center_feature_scale=center_feature_scale,
            remove_center=remove_center,
        )
        drop_path_rates = [drop_path_rate] * sum(depths)
        if drop_path_type == "linear":
            drop_path_rates = [rate * i / max(1, sum(depths) - 1) for i, rate in enumerate(drop_path_rates)]
        rates = iter(drop_path_rates)
        self.levels = nn.ModuleList()
        for i, depth in enumerate(depths):
            width = channels * 2**i
            self.levels.append(
                Stage(
                    [Block(width, groups[i], drop_path=next(rates), **block) for _ in range(depth)],
                    width,
                    norm=not post_norm or center_feature_scale,
                    post_norm_block_ids=post_norm_block_ids if i == 2 else (),
                    downsample=Downsample(width, norm_layer) if i < count - 1 else None,
                )
            )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, DCNv3):
                module.reset_parameters()  # it has linear layers too
        self.train()

    def init_weights(self) -> None:
        """Load the checkpoint of ``init_cfg``, if there is one; the constructor initialises everything else."""
        # mmengine's own version would initialise the layers again and undo DCNv3's offsets of zero.
        if self.init_cfg is not None:
            load_weights(self, self.init_cfg["checkpoint"])
        self._is_init = True

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.frozen_stages >= 0:
            for module in (self.patch_embed, self.pos_drop, *self.levels[: self.frozen_stages]):
                module.eval()
                module.requires_grad_(False)
        return self

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return one contiguous map ``(N, C, h, w)`` per entry of ``out_indices``, for images ``(N, 3, H, W)``."""
        x = self.pos_drop(self.patch_embed(image))
        maps = []
        for i, level in enumerate(self.levels):
            out, x = level(x)
            if i in self.out_indices:
                maps.append(out.permute(0, 3, 1, 2).contiguous())
        return tuple(maps)
