"""Parts of InternImage, with the names of the public state dicts.

Maps are channels last, ``(N, H, W, C)``, from the stem's output on. A Sequential runs its parts in the order in which
they are assigned.
"""

import torch
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ops_dcnv3 import DCNv3
from ops_dcnv3.layers import ChannelsFirst, activation, normalisation


class Stem(nn.Sequential):
    """Two convolutions of stride 2: ``(N, 3, H, W)`` to ``(N, H/4, W/4, channels)``, sizes rounded up."""

    def __init__(self, channels: int, act_layer: str, norm_layer: str):
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels // 2, 3, stride=2, padding=1)
        self.norm1 = normalisation(channels // 2, norm_layer, first_in=True, first_out=True)
        self.act = activation(act_layer)
        self.conv2 = nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1)
        self.norm2 = normalisation(channels, norm_layer, first_in=True)


class Downsample(nn.Sequential):
    """Convolution of stride 2: ``(N, H, W, C)`` to ``(N, H/2, W/2, 2·C)``, sizes rounded up."""

    def __init__(self, channels: int, norm_layer: str):
        super().__init__()
        self.channels_first = ChannelsFirst()
        self.conv = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=False)
        self.norm = normalisation(2 * channels, norm_layer, first_in=True)


class MLP(nn.Sequential):
    """Two linear layers over the channels, ``(..., C)`` to ``(..., C)``."""

    def __init__(self, channels: int, hidden: int, act_layer: str, drop: float):
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.act = activation(act_layer)
        self.drop1 = nn.Dropout(drop)
        self.fc2 = nn.Linear(hidden, channels)
        self.drop2 = nn.Dropout(drop)


class Block(nn.Module):
    """Residual branches of DCNv3 and of an MLP: ``(N, H, W, C)`` to ``(N, H, W, C)``.

    Arguments as in :class:`lib.internimage.InternImage`, except ``drop``: dropout in the MLP, ``drop_path``:
    probability of leaving out a branch, per image, and ``**dcn``: further arguments of :class:`ops_dcnv3.DCNv3`.
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
        act_layer: str,
        **dcn,
    ):
        super().__init__()
        self.post_norm, self.with_cp = post_norm, with_cp
        self.norm1 = normalisation(channels)
        self.dcn = DCNv3(channels, group=groups, act_layer=act_layer, **dcn)
        self.drop_path = DropPath(drop_path)
        self.norm2 = normalisation(channels)
        self.mlp = MLP(channels, int(channels * mlp_ratio), act_layer, drop)
        self.gamma1 = None if layer_scale is None else nn.Parameter(torch.full((channels,), float(layer_scale)))
        self.gamma2 = None if layer_scale is None else nn.Parameter(torch.full((channels,), float(layer_scale)))
        self.res_post_norm1 = normalisation(channels) if res_post_norm else nn.Identity()
        self.res_post_norm2 = normalisation(channels) if res_post_norm else nn.Identity()

    def _branches(self, x: Tensor) -> Tensor:
        for layer, norm, res_norm, gamma in (
            (self.dcn, self.norm1, self.res_post_norm1, self.gamma1),
            (self.mlp, self.norm2, self.res_post_norm2, self.gamma2),
        ):
            y = res_norm(norm(layer(x)) if self.post_norm else layer(norm(x)))
            x = x + self.drop_path(y if gamma is None else gamma * y)
        return x

    def forward(self, x: Tensor) -> Tensor:
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(self._branches, x, use_reentrant=False)
        return self._branches(x)


class Stage(nn.Module):
    """Blocks of one resolution, and the downsampling to the next; ``norm``: normalise the stage's map.

    The map is also normalised after the blocks of ``post_norm_block_ids``.
    """

    def __init__(self, blocks: list[Block], channels: int, *, norm: bool, post_norm_block_ids, downsample):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = normalisation(channels) if norm else nn.Identity()
        self.post_norm_block_ids = tuple(post_norm_block_ids)
        self.post_norms = nn.ModuleList(normalisation(channels) for _ in self.post_norm_block_ids)
        self.downsample = downsample

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the stage's map ``(N, H, W, C)`` and the next stage's input (``None`` in the last stage)."""
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.post_norm_block_ids:
                x = self.post_norms[self.post_norm_block_ids.index(i)](x)
        x = self.norm(x)
        return x, None if self.downsample is None else self.downsample(x)
