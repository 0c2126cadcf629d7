"""The same network with less arithmetic, for inference: batch norms folded into their convolutions, and UperNet's last
convolution split by level.

UperNet upsamples the maps of all levels to the finest one, stacks them and convolves the stack, which is most of its
work. Mixing channels and bilinear upsampling can change places, so the coarser levels are mixed at their own
resolution and only then upsampled; what differs from the original is rounding.
"""

from __future__ import annotations

from functools import lru_cache, partial

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule, fuse_conv_bn
from mmseg.models.decode_heads import UPerHead
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def fuse(model: nn.Module) -> None:
    """Change a segmentor in evaluation mode, in place; it can no longer be trained, nor loaded into."""
    for module in model.modules():
        if isinstance(module, ConvModule) and module.with_norm and tuple(module.order[:2]) == ("conv", "norm"):
            if isinstance(module.norm, _BatchNorm):
                fuse_conv_bn(module)
    head = model.decode_head
    if type(head) is UPerHead and not head.align_corners and isinstance(head.fpn_bottleneck.norm, nn.Identity):
        head._forward_feature = partial(_pyramid, head, SplitConvolution(head.fpn_bottleneck.conv, head.channels))


def _pyramid(head: UPerHead, last: SplitConvolution, maps: tuple[Tensor, ...]) -> Tensor:
    """What UperNet's ``_forward_feature`` returns; Xiao et al., "Unified perceptual parsing", ECCV 2018."""
    maps = head._transform_inputs(maps)
    levels = [lateral(level) for lateral, level in zip(head.lateral_convs, maps[:-1], strict=True)]
    levels.append(head.psp_forward(maps))
    for fine in reversed(range(len(levels) - 1)):
        levels[fine] = levels[fine] + _upsampled(levels[fine + 1], levels[fine].shape[2:])
    smoothed = [conv(level) for conv, level in zip(head.fpn_convs, levels[:-1], strict=True)]
    return head.fpn_bottleneck.activate(last([*smoothed, levels[-1]]))


def _upsampled(x: Tensor, size) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


class SplitConvolution:
    """A 3x3 convolution of maps that are upsampled to the first one's size and stacked, without doing either.

    Args:
        conv: with padding 1, on the stack.
        channels: of each map.
    """

    def __init__(self, conv: nn.Conv2d, channels: int):
        self.first, *rest = conv.weight.split(channels, dim=1)
        # Rows in the order kernel column, channel, kernel row: see `__call__`.
        self.rest = [w.permute(3, 0, 2, 1).reshape(-1, channels).contiguous() for w in rest]
        self.bias = conv.bias

    def __call__(self, maps: list[Tensor]) -> Tensor:
        """``(N, channels, h, w)`` each, finest first, to ``(N, C, H, W)``."""
        out = F.conv2d(maps[0], self.first, self.bias, padding=1)
        n, channels, height, width = out.shape
        for level, weight in zip(maps[1:], self.rest, strict=True):
            h, w = level.shape[2:]
            mixed = (weight @ level.flatten(2)).view(n, 3, channels, 3 * h, w)
            down, across = (_taps(*sizes).to(level) for sizes in ((h, height), (w, width)))
            down = down.transpose(0, 1).flatten(1)
            for column in range(3):
                tall = (down @ mixed[:, column]).view(-1, w)
                out = torch.addmm(out.view(-1, width), tall, across[column].t()).view(n, channels, height, width)
        return out


@lru_cache(maxsize=64)
def _taps(low: int, high: int) -> Tensor:
    """``float32 (3, high, low)``: linear upsampling along one axis, and a step of -1, 0 or 1 with zeros beyond the end."""
    up = F.interpolate(torch.eye(low)[None], size=high, mode="linear", align_corners=False)[0].t()
    return F.pad(up, (0, 0, 1, 1)).unfold(0, high, 1).transpose(1, 2).contiguous()
