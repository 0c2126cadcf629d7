"""What InternImage is made of: the stem, the block of DCNv3 and MLP, and the stage of blocks.

Maps are channels last, ``(N, H, W, C)``, from the stem's output on. Attribute names are those of the public
state dicts.
"""

from __future__ import annotations

import torch
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ops_dcnv3 import DCNv3
from ops_dcnv3.layers import activation, normalisation


class Stem(nn.Module):
    """Two strided convolutions: ``(N, 3, H, W)`` to ``(N, H/4, W/4, channels)``, sizes rounded up."""

    def __init__(self, channels: int, act_layer: str, norm_layer: str):
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels // 2, 3, stride=2, padding=1)
        self.norm1 = normalisation(channels // 2, norm_layer, first_in=True, first_out=True)
        self.act = activation(act_layer)
        self.conv2 = nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1)
        self.norm2 = normalisation(channels, norm_layer, first_in=True)

    def forward(self, image: Tensor) -> Tensor:
        return self.norm2(self.conv2(self.act(self.norm1(self.conv1(image)))))


class Downsample(nn.Module):
    """``(N, H, W, C)`` to ``(N, H/2, W/2, 2·C)``, sizes rounded up."""

    def __init__(self, channels: int, norm_layer: str):
        super().__init__()
        self.conv = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=False)
        self.norm = normalisation(2 * channels, norm_layer, first_in=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x.permute(0, 3, 1, 2)))


class MLP(nn.Module):
    """Two linear layers over the channels, ``(..., C)`` to ``(..., C)``."""

    def __init__(self, channels: int, hidden: int, act_layer: str, drop: float):
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.act = activation(act_layer)
        self.fc2 = nn.Linear(hidden, channels)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


class Block(nn.Module):
    """DCNv3, then an MLP, each added to its input; ``(N, H, W, C)`` to the same.

    Args:
        channels: C.
        groups: groups of DCNv3.
        mlp_ratio: the MLP's hidden width over C.
        drop: dropout inside the MLP.
        drop_path: probability of leaving out a branch, per image.
        post_norm: normalise a branch's result instead of its input.
        res_post_norm: normalise the result as well as the input.
        layer_scale: start of a learned factor per channel on each branch; ``None``: no factor.
        with_cp: recompute the block in the backward pass instead of storing what it needs.
        dcn: further arguments of :class:`ops_dcnv3.DCNv3`.
    """

    def __init__(
        self,
        channels: int,
        groups: int,
        *,
        mlp_ratio: float,
        drop: float,
        drop_path: float,
        post_norm: bool,
        res_post_norm: bool,
        layer_scale: float | None,
        with_cp: bool,
        dcn: dict,
    ):
        super().__init__()
        self.post_norm, self.with_cp = post_norm, with_cp
        self.norm1 = normalisation(channels)
        self.dcn = DCNv3(channels, group=groups, **dcn)
        self.drop_path = DropPath(drop_path)
        self.norm2 = normalisation(channels)
        self.mlp = MLP(channels, int(channels * mlp_ratio), dcn["act_layer"], drop)
        self.gamma1 = None if layer_scale is None else nn.Parameter(torch.full((channels,), float(layer_scale)))
        self.gamma2 = None if layer_scale is None else nn.Parameter(torch.full((channels,), float(layer_scale)))
        self.res_post_norm1 = normalisation(channels) if res_post_norm else None
        self.res_post_norm2 = normalisation(channels) if res_post_norm else None

    def _branch(self, x: Tensor, layer: nn.Module, norm: nn.Module, res_norm, gamma) -> Tensor:
        y = norm(layer(x)) if self.post_norm else layer(norm(x))
        if res_norm is not None:
            y = res_norm(y)
        if gamma is not None:
            y = gamma * y
        return x + self.drop_path(y)

    def _both(self, x: Tensor) -> Tensor:
        x = self._branch(x, self.dcn, self.norm1, self.res_post_norm1, self.gamma1)
        return self._branch(x, self.mlp, self.norm2, self.res_post_norm2, self.gamma2)

    def forward(self, x: Tensor) -> Tensor:
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(self._both, x, use_reentrant=False)
        return self._both(x)


class Stage(nn.Module):
    """Blocks of one resolution, and the way to the next.

    Args:
        blocks: all of ``channels``.
        channels: C.
        norm: normalise the stage's result.
        post_norm_block_ids: blocks (from 0) after which the map is normalised; ``None``: none.
        downsample: the way to the next stage, ``None`` in the last one.
    """

    def __init__(self, blocks: list[Block], channels: int, *, norm: bool, post_norm_block_ids, downsample):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = normalisation(channels) if norm else None
        self.post_norm_block_ids = tuple(post_norm_block_ids or ())
        if self.post_norm_block_ids:
            self.post_norms = nn.ModuleList(normalisation(channels) for _ in self.post_norm_block_ids)
        self.downsample = downsample

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """``(N, H, W, C)`` to the stage's map of that shape, and the next stage's input (``None`` at the end)."""
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.post_norm_block_ids:
                x = self.post_norms[self.post_norm_block_ids.index(i)](x)
        if self.norm is not None:
            x = self.norm(x)
        return x, None if self.downsample is None else self.downsample(x)
