"""The DCNv3 layer: projections, a depth-wise branch that predicts offsets and mask, and the operator.

Argument names and state-dict names are those of the public module, so its weights load unchanged.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ops_dcnv3.layers import activation, normalisation
from ops_dcnv3.op import dcnv3


class DCNv3(nn.Module):
    """Deformable convolution v3 with the branch that steers it, on channels-last maps.

    Input ``(N, H, W, channels)``, output ``(N, Ho, Wo, channels)`` with ``Ho = (H - 1) // stride + 1``.

    Args:
        channels: C.
        kernel_size: side of the kernel of the deformable sampling.
        dw_kernel_size: side of the depth-wise convolution's kernel, odd; ``None`` is ``kernel_size``.
        stride: step between output positions, taken by the sampling and by the depth-wise branch alike.
        pad: must keep the size at stride 1, ``2 · pad = dilation · (kernel_size - 1)``.
        dilation: distance between kernel points.
        group: number of groups; each has its own offsets and mask.
        offset_scale: as in :func:`ops_dcnv3.dcnv3`.
        act_layer, norm_layer: of the depth-wise branch, names as in :mod:`ops_dcnv3.layers`.
        center_feature_scale: blend the result with the projected input, by a learned weight per group
            and position (InternImage-H and -G); needs stride 1.
        remove_center: leave out the kernel's middle point.

    Raises:
        ValueError: arguments that contradict each other; names the one to change.
    """

    def __init__(
        self,
        channels: int = 64,
        kernel_size: int = 3,
        dw_kernel_size: int | None = None,
        stride: int = 1,
        pad: int = 1,
        dilation: int = 1,
        group: int = 4,
        offset_scale: float = 1.0,
        act_layer: str = "GELU",
        norm_layer: str = "LN",
        center_feature_scale: bool = False,
        remove_center: bool = False,
    ):
        super().__init__()
        dw_kernel_size = kernel_size if dw_kernel_size is None else dw_kernel_size
        if channels % group:
            raise ValueError(f"group: {group} (expected a divisor of {channels} channels)")
        if dw_kernel_size % 2 == 0:
            raise ValueError(f"dw_kernel_size: {dw_kernel_size} (expected an odd number)")
        if 2 * pad != dilation * (kernel_size - 1):
            size = f"kernel_size {kernel_size} and dilation {dilation}"
            raise ValueError(f"pad: {pad} (expected {dilation * (kernel_size - 1) / 2:g} with {size})")
        if center_feature_scale and stride != 1:
            raise ValueError(f"stride: {stride} (expected 1 with center_feature_scale)")
        self.group = group
        self.sampling: dict[str, Any] = dict(
            kernel_size=kernel_size,
            stride=stride,
            padding=pad,
            dilation=dilation,
            groups=group,
            offset_scale=offset_scale,
            remove_center=remove_center,
        )
        self.dw_conv = nn.Sequential(
            nn.Conv2d(channels, channels, dw_kernel_size, stride=stride, padding=dw_kernel_size // 2, groups=channels),
            normalisation(channels, norm_layer, first_in=True),
            activation(act_layer),
        )
        points = kernel_size * kernel_size - int(remove_center)
        self.offset = nn.Linear(channels, group * points * 2)
        self.mask = nn.Linear(channels, group * points)
        self.input_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        self.center_feature_scale = center_feature_scale
        if center_feature_scale:
            self.center_feature_scale_proj_weight = nn.Parameter(torch.zeros(group, channels))
            self.center_feature_scale_proj_bias = nn.Parameter(torch.zeros(group))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as an ordinary average over the kernel: no offsets, equal weights, Xavier projections."""
        for layer in (self.offset, self.mask):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        for layer in (self.input_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, input: Tensor) -> Tensor:
        """``(N, H, W, channels)`` to ``(N, Ho, Wo, channels)``."""
        projected = self.input_proj(input)
        steer = self.dw_conv(input.permute(0, 3, 1, 2))
        offset = self.offset(steer)
        out = dcnv3(projected, offset, self.weights(steer), **self.sampling)
        if self.center_feature_scale:
            scale = F.linear(
                steer, self.center_feature_scale_proj_weight, self.center_feature_scale_proj_bias
            ).sigmoid()
            # One weight per group, for all of the group's channels.
            blended = torch.lerp(
                out.unflatten(-1, (self.group, -1)),
                projected.unflatten(-1, (self.group, -1)),
                scale.unsqueeze(-1).to(out.dtype),
            )
            out = blended.flatten(-2)
        return self.output_proj(out)

    def weights(self, steer: Tensor) -> Tensor:
        """The operator's mask from the depth-wise branch: each group's weights over its points, which sum to 1."""
        return self.mask(steer).unflatten(-1, (self.group, -1)).softmax(-1).flatten(-2)
