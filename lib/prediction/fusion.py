"""Faster inference of a trained network on a CPU; results are equal except for rounding."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule, fuse_conv_bn
from mmseg.models.decode_heads import UPerHead
from torch import Tensor, nn

from ops_dcnv3 import DCNv3


def fuse(model: Any) -> None:
    """Change a segmentor in evaluation mode, in place; afterwards it can neither train nor load weights.

    Batch norms are folded into convolutions, DCNv3's softmax is computed in parts, UperNet's last convolution is split.
    """
    module: Any
    for module in model.modules():
        if isinstance(module, DCNv3):
            module.weights = partial(_weights, module)  # type: ignore[method-assign]
        if isinstance(module, ConvModule) and tuple(module.order[:2]) == ("conv", "norm"):
            fuse_conv_bn(module)
    head = model.decode_head
    if type(head) is UPerHead and not head.align_corners and isinstance(head.fpn_bottleneck.norm, nn.Identity):
        head._forward_feature = partial(_pyramid, head, SplitConvolution(head.fpn_bottleneck.conv, head.channels))


def _weights(module: DCNv3, features: Tensor) -> Tensor:
    """Replace :meth:`ops_dcnv3.DCNv3.weights`; over nine points softmax takes six times as long as its parts."""
    logits = module.mask(features).unflatten(-1, (module.group, -1))
    weights = (logits - logits.amax(-1, keepdim=True)).float().exp()
    return weights.div_(weights.sum(-1, keepdim=True)).to(logits).flatten(-2)


class SplitConvolution:
    """A 3x3 convolution with padding 1 of a stack of maps, upsampled to the first one's size, without the stack.

    Upsampling and convolving the stack is most of UperNet's work. Channel mixing and upsampling commute: the coarser
    maps, each of ``channels``, are mixed at their own resolution and upsampled afterwards.
    """

    def __init__(self, conv: nn.Conv2d, channels: int):
        self.first, *rest = conv.weight.split(channels, dim=1)
        # Rows in the order kernel column, channel, kernel row: see `__call__`.
        self.rest = [weight.permute(3, 0, 2, 1).reshape(-1, channels).contiguous() for weight in rest]
        self.bias = conv.bias

    def __call__(self, maps: list[Tensor]) -> Tensor:
        """Convolve maps ``(N, channels, h, w)``, the finest first, into ``(N, C, H, W)``."""
        out = F.conv2d(maps[0], self.first, self.bias, padding=1)
        n, channels, height, width = out.shape
        wide, down = [], []
        for level, weight in zip(maps[1:], self.rest, strict=True):
            h, w = level.shape[2:]
            # Products in place: `matmul` and `addmm` would copy what they broadcast or add to.
            mixed = torch.bmm(weight.expand(n, -1, -1), level.flatten(2)).view(n, 3, -1, w)
            across = _taps(w, width).to(mixed)
            rows = mixed[:, 0].reshape(-1, w) @ across[0].t()
            for column in (1, 2):
                rows.addmm_(mixed[:, column].reshape(-1, w), across[column].t())
            wide.append(rows.view(n * channels, 3 * h, width))
            down.append(_taps(h, height).to(mixed).transpose(0, 1).flatten(1))
        stacked = torch.cat(down, 1).expand(n * channels, -1, -1)
        return out.flatten(0, 1).baddbmm_(stacked, torch.cat(wide, 1)).view_as(out)


def _taps(low: int, high: int) -> Tensor:
    """Return linear upsampling along an axis, then a step of -1, 0 or 1, zeros outside: ``float32 (3, high, low)``."""
    up = F.interpolate(torch.eye(low)[None], size=high, mode="linear", align_corners=False)[0].t()
    return F.pad(up, (0, 0, 1, 1)).unfold(0, high, 1).transpose(1, 2).contiguous()


def _pyramid(head: UPerHead, convolution: SplitConvolution, maps: tuple[Tensor, ...]) -> Tensor:
    """Replace UperNet's ``_forward_feature``; Xiao et al., "Unified perceptual parsing", ECCV 2018."""
    maps = head._transform_inputs(maps)
    levels = [lateral(level) for lateral, level in zip(head.lateral_convs, maps[:-1], strict=True)]
    levels.append(head.psp_forward(maps))
    for fine in reversed(range(len(levels) - 1)):
        size = levels[fine].shape[2:]
        levels[fine] = levels[fine] + F.interpolate(levels[fine + 1], size=size, mode="bilinear", align_corners=False)
    smoothed = [conv(level) for conv, level in zip(head.fpn_convs, levels[:-1], strict=True)]
    return head.fpn_bottleneck.activate(convolution([*smoothed, levels[-1]]))
