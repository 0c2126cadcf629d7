"""DCNv3 in plain PyTorch: what the compiled kernels are tested against, and the fallback without them.

The input is seen as a table with one row per image, pixel and group. An output position of a group is then a
weighted sum of 4 × points rows, which is ``embedding_bag``; the gradient of the input is the same sum the
other way round, after sorting the samples by the row they read. Nothing of size points × channels is ever
stored. Locations are computed in pixels rather than in ``grid_sample``'s normalised coordinates, so integer
locations stay exact.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

BORDER = 2
"""Rows and columns of zeros around the input: enough for a whole bilinear cell to lie outside."""


class Geometry(NamedTuple):
    """The integers and flags of one call, in the order of the operator's schema."""

    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    padding_h: int
    padding_w: int
    dilation_h: int
    dilation_w: int
    groups: int
    offset_scale: float
    remove_center: bool

    @property
    def points(self) -> int:
        """Sampling points of one output position and group."""
        return self.kernel_h * self.kernel_w - int(self.remove_center)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """(Ho, Wo) of a convolution with this kernel over ``height`` × ``width`` pixels."""
        return (
            (height + 2 * self.padding_h - self.dilation_h * (self.kernel_h - 1) - 1) // self.stride_h + 1,
            (width + 2 * self.padding_w - self.dilation_w * (self.kernel_w - 1) - 1) // self.stride_w + 1,
        )


class _Samples(NamedTuple):
    """Where the bilinear cells lie; all three are (N, Ho, Wo, G, P)."""

    row: Tensor  # int64: row of the cell's top left corner in the table of _table
    fx: Tensor  # fraction of the way to the right column
    fy: Tensor  # fraction of the way to the lower row


def forward(input: Tensor, offset: Tensor, mask: Tensor, geometry: Geometry) -> Tensor:
    """The operator's value; shapes and meaning as in :func:`ops_dcnv3.dcnv3`, which has checked them."""
    n, height, width, channels = input.shape
    samples = _locate(offset, height, width, geometry)
    table = _table(input, geometry.groups)
    rows = samples.row.unsqueeze(-1) + table.new_tensor(_corners(width, geometry.groups), dtype=torch.int64)
    mask_values = mask.to(table.dtype).contiguous().view(samples.fx.shape)
    weights = torch.stack(_weights(samples.fx, samples.fy, mask_values), dim=-1)
    bag = 4 * geometry.points
    out = F.embedding_bag(rows.view(-1, bag), table, mode="sum", per_sample_weights=weights.view(-1, bag))
    return out.view(n, *offset.shape[1:3], channels).to(input.dtype)


def backward(
    grad: Tensor, input: Tensor, offset: Tensor, mask: Tensor, geometry: Geometry
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of input, offset and mask, given ``grad`` of the output's shape and dtype.

    A sample exactly on a pixel takes the derivative toward +x and +y.
    """
    height, width = input.shape[1:3]
    samples = _locate(offset, height, width, geometry)
    table = _table(input, geometry.groups)
    grad_bags = grad.to(table.dtype).reshape(-1, table.shape[1])
    mask_values = mask.to(table.dtype).contiguous().view(samples.fx.shape)
    grad_input = _grad_input(grad_bags, samples, mask_values, input.shape, geometry.groups)
    grad_offset, grad_mask = _grad_samples(grad_bags, table, samples, mask_values, width, geometry)
    return (
        grad_input.to(input.dtype),
        grad_offset.reshape(offset.shape).to(input.dtype),
        grad_mask.reshape(mask.shape).to(input.dtype),
    )


def _table(input: Tensor, groups: int) -> Tensor:
    """(N · (H + 4) · (W + 4) · G, D): the input with its border of zeros, in float32 at least."""
    n, height, width, channels = input.shape
    dtype = torch.promote_types(input.dtype, torch.float32)
    padded = input.new_zeros((n, height + 2 * BORDER, width + 2 * BORDER, channels), dtype=dtype)
    padded[:, BORDER:-BORDER, BORDER:-BORDER] = input
    return padded.view(-1, channels // groups)


def _corners(width: int, groups: int) -> tuple[int, int, int, int]:
    """Distance in table rows from a cell's top left corner to its four corners, row by row."""
    line = (width + 2 * BORDER) * groups
    return 0, groups, line, line + groups


def _locate(offset: Tensor, height: int, width: int, geometry: Geometry) -> _Samples:
    """Sampling locations of ``offset`` over an image of ``height`` × ``width`` pixels, as table rows.

    Kernel point (i, j) of output position (x, y) lies ``offset_scale`` times its offset away from
    ``x · stride - padding + reach + offset_scale · (i · dilation - reach)``, where ``reach`` is the distance
    from the kernel's first point to its middle; the same along y (InternImage, CVPR 2023, equation 2, with
    the scale as in its code).
    """
    n, out_h, out_w, _ = offset.shape
    g = geometry
    dtype = torch.promote_types(offset.dtype, torch.float32)
    middle_x, point_x = _axis(out_w, g.kernel_w, g.stride_w, g.padding_w, g.dilation_w, offset.device, dtype)
    middle_y, point_y = _axis(out_h, g.kernel_h, g.stride_h, g.padding_h, g.dilation_h, offset.device, dtype)
    # Kernel points run column by column.
    grid_x = point_x.repeat_interleave(g.kernel_h)
    grid_y = point_y.repeat(g.kernel_w)
    if g.remove_center:
        kept = torch.arange(grid_x.numel(), device=offset.device) != grid_x.numel() // 2
        grid_x, grid_y = grid_x[kept], grid_y[kept]
    moves = offset.to(dtype).contiguous().view(n, out_h, out_w, g.groups, g.points, 2) * g.offset_scale
    x = moves[..., 0] + (middle_x[:, None, None] + grid_x * g.offset_scale)
    y = moves[..., 1] + (middle_y[:, None, None, None] + grid_y * g.offset_scale)
    # Far away means zeros, wherever; a NaN must not become an index.
    x = x.nan_to_num_(nan=-BORDER).clamp_(-BORDER, width)
    y = y.nan_to_num_(nan=-BORDER).clamp_(-BORDER, height)
    left, top = x.floor(), y.floor()
    image = torch.arange(n, device=offset.device).view(n, 1, 1, 1, 1) * (height + 2 * BORDER)
    line = image + top.to(torch.int64) + BORDER
    row = (line * (width + 2 * BORDER) + left.to(torch.int64) + BORDER) * g.groups
    row += torch.arange(g.groups, device=offset.device).unsqueeze(-1)
    return _Samples(row, x - left, y - top)


def _axis(size, kernel, stride, padding, dilation, device, dtype) -> tuple[Tensor, Tensor]:
    """Middle of the kernel at each of ``size`` output positions, and its points relative to the middle."""
    reach = dilation * (kernel - 1) // 2
    middle = torch.arange(size, device=device, dtype=dtype) * stride - padding + reach
    point = torch.arange(kernel, device=device, dtype=dtype) * dilation - reach
    return middle, point


def _weights(fx: Tensor, fy: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Bilinear weight times mask of the four corners, in the order of :func:`_corners`."""
    lower = fy * mask
    upper = mask - lower
    lower_right, upper_right = fx * lower, fx * upper
    return upper - upper_right, upper_right, lower - lower_right, lower_right


def _grad_input(grad_bags: Tensor, samples: _Samples, mask: Tensor, shape, groups: int) -> Tensor:
    """(N, H, W, C): each table row gathers, from the bags that read it, their gradient times its weight."""
    n, height, width, channels = shape
    lines, columns = height + 2 * BORDER, width + 2 * BORDER
    row = samples.row.view(-1)
    # One sort serves the four corners: they are the same rows, moved by a constant. Stable, so that the sums
    # are taken in the same order each time.
    order = torch.argsort(row, stable=True)
    count = torch.bincount(row, minlength=n * lines * columns * groups)
    start = count.cumsum(0) - count
    bag = order // samples.row.shape[-1]
    weights = _weights(*(t.view(-1).index_select(0, order) for t in (samples.fx, samples.fy, mask)))
    grad = grad_bags.new_zeros(n, height, width, channels)
    for corner, weight in enumerate(weights):
        part = F.embedding_bag(bag, grad_bags, start, mode="sum", per_sample_weights=weight)
        down, right = divmod(corner, 2)
        part = part.view(n, lines, columns, channels)
        grad += part[:, BORDER - down :, BORDER - right :][:, :height, :width]
    return grad


def _grad_samples(
    grad_bags: Tensor, table: Tensor, samples: _Samples, mask: Tensor, width: int, geometry: Geometry
) -> tuple[Tensor, Tensor]:
    """(N, Ho, Wo, G, P, 2) for the offsets and (N, Ho, Wo, G, P) for the mask."""
    corners = table.new_tensor(_corners(width, geometry.groups), dtype=torch.int64)
    bags, size = len(grad_bags), 4 * geometry.points
    rows = samples.row.unsqueeze(-1) + corners
    start = torch.arange(bags, device=table.device) * size
    bag = torch.arange(bags, device=table.device).repeat_interleave(size)
    # The dot product of each sampled row with its bag's gradient. Only this ATen operator forms it without
    # storing the rows; the 0 says that the bags were summed.
    dots = torch.ops.aten._embedding_bag_per_sample_weights_backward(grad_bags, table, rows.view(-1), start, bag, 0)
    dots = dots.view(rows.shape)
    upper_left, upper_right, lower_left, lower_right = dots.unbind(-1)
    upper = torch.lerp(upper_left, upper_right, samples.fx)
    lower = torch.lerp(lower_left, lower_right, samples.fx)
    along_x = torch.lerp(upper_right - upper_left, lower_right - lower_left, samples.fy)
    grad_offset = torch.stack([along_x, lower - upper], dim=-1) * (mask * geometry.offset_scale).unsqueeze(-1)
    return grad_offset, torch.lerp(upper, lower, samples.fy)
