"""DCNv3 in standard operators of ONNX: a ``Gather`` of bilinear cells and a ``MatMul`` with their weights.

``GridSample`` is not used: its normalised coordinates lose precision in wide images, and onnxruntime takes four to nine
times as long with it on a CPU. The price is memory: 4 × points times the size of the input. The exporter runs these
functions with symbolic tensors and records the operators that they call.
"""

from __future__ import annotations

import itertools
from typing import Any

from onnxscript import ir, opset20

from ops_dcnv3.reference import BORDER, Geometry

op: Any = opset20  # its annotations demand ONNX tensors where numbers and lists serve too


def dcnv3(
    input,
    offset,
    mask,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    padding_h: int,
    padding_w: int,
    dilation_h: int,
    dilation_w: int,
    groups: int,
    offset_scale: float,
    remove_center: bool,
):
    """Translate the operator; arguments as in its schema. The exporter reads their types from the annotations."""
    g = Geometry(
        kernel_h,
        kernel_w,
        stride_h,
        stride_w,
        padding_h,
        padding_w,
        dilation_h,
        dilation_w,
        groups,
        offset_scale,
        bool(remove_center),
    )
    input_dtype, depth = input.dtype, input.shape[3] // groups
    dtype = ir.DataType.DOUBLE if input_dtype == ir.DataType.DOUBLE else ir.DataType.FLOAT
    input, mask, offset = (op.Cast(tensor, to=dtype) for tensor in (input, mask, offset))
    batch, height, width = (op.Shape(input, start=axis, end=axis + 1) for axis in range(3))
    (left, fx), (top, fy) = _locate(offset, height, width, g, dtype)

    # Table rows from one line of cells to the next, and from one image to the next.
    line = op.Mul(op.Add(width, 2 * BORDER - 1), groups)
    image = op.Mul(op.Add(height, 2 * BORDER - 1), line)
    first = op.Add(op.Mul(_count(batch, [-1, 1, 1, 1]), image), op.Mul(op.Add(line, groups), BORDER))
    group = op.Constant(value_ints=[group for group in range(groups) for _ in range(g.points)])
    row = op.Add(op.Add(op.Mul(top, line), op.Mul(left, groups)), op.Add(first, group))
    cells = op.Gather(_cells(input, depth), op.Reshape(row, [-1, g.points]), axis=0)

    lower = op.Mul(fy, mask)
    upper = op.Sub(mask, lower)
    lower_right, upper_right = op.Mul(fx, lower), op.Mul(fx, upper)
    corners = op.Sub(upper, upper_right), upper_right, op.Sub(lower, lower_right), lower_right
    weights = op.Concat(*(op.Reshape(corner, [1, -1]) for corner in corners), axis=0)
    weights = op.Reshape(op.Transpose(weights, perm=[1, 0]), [-1, 1, 4 * g.points])

    out = op.MatMul(weights, op.Reshape(cells, [-1, 4 * g.points, depth]))
    shape = op.Concat(op.Shape(offset, start=0, end=3), op.Constant(value_ints=[groups * depth]), axis=0)
    return op.Cast(op.Reshape(out, shape), to=input_dtype)


def _locate(offset, height, width, g: Geometry, dtype: ir.DataType):
    """Return, along x and along y, the cell's first pixel (int64) and the fraction beyond, both (N, Ho, Wo, G·P).

    The order of the sums is that of :func:`ops_dcnv3.reference._locate`: in wide images another one rounds differently.
    """
    scale, border = (op.Constant(value=ir.tensor(value, dtype)) for value in (g.offset_scale, -float(BORDER)))
    moves = op.Mul(op.Reshape(offset, [0, 0, 0, g.groups * g.points, 2]), scale)
    # One transposition is faster than two strided slices.
    moves = op.Transpose(moves, perm=[4, 0, 1, 2, 3])
    reach_w, reach_h = g.dilation_w * (g.kernel_w - 1) // 2, g.dilation_h * (g.kernel_h - 1) // 2
    points = [
        (float(i * g.dilation_w - reach_w), float(j * g.dilation_h - reach_h))
        for i in range(g.kernel_w)
        for j in range(g.kernel_h)
    ]
    if g.remove_center:
        del points[len(points) // 2]
    rows, columns = (op.Shape(offset, start=axis, end=axis + 1) for axis in (1, 2))
    middle_x = op.Add(op.Mul(_count(columns, [-1, 1]), g.stride_w), reach_w - g.padding_w)
    middle_y = op.Add(op.Mul(_count(rows, [-1, 1, 1]), g.stride_h), reach_h - g.padding_h)
    located = []
    for axis, (middle, limit) in enumerate([(middle_x, width), (middle_y, height)]):
        grid = op.Constant(value=ir.tensor([point[axis] for point in points] * g.groups, dtype))
        base = op.Add(op.Cast(middle, to=dtype), op.Mul(grid, scale))
        at = op.Add(op.Gather(moves, axis, axis=0), base)
        # Beyond the border all samples are zero: clamp. A NaN is not greater than the border, so it becomes the border.
        at = op.Where(op.Greater(at, border), op.Min(at, op.Cast(limit, to=dtype)), border)
        pixel = op.Floor(at)
        located.append((op.Cast(pixel, to=ir.DataType.INT64), op.Sub(at, pixel)))
    return located


def _cells(input, depth: int):
    """Return (N · (H + 3) · (W + 3) · G, 4 · depth): a group's values at a cell's corners, zeros around the image."""
    padded = op.Pad(input, [0, BORDER, BORDER, 0] * 2)
    but_last, but_first = (0, -1), (1, 2**31)
    corners = []
    for (down, down_end), (right, right_end) in itertools.product((but_last, but_first), repeat=2):
        corner = op.Slice(padded, [down, right], [down_end, right_end], [1, 2])
        corners.append(op.Reshape(corner, [-1, depth]))
    return op.Concat(*corners, axis=1)


def _count(size, shape: list[int]):
    """Return 0 to ``size`` - 1 as int64, in ``shape``."""
    return op.Reshape(op.Range(0, op.Squeeze(size), 1), shape)
