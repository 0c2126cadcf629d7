"""Calls of the operator that several test modules make, and the comparison with the PyTorch implementation."""

import torch
from torch.testing import assert_close

from ops_dcnv3 import reference
from ops_dcnv3.reference import Geometry

TOLERANCE = {torch.float32: 5e-6, torch.float64: 1e-13, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
"""Of the largest magnitude: two roundings to the type, or the order of the sums."""
NAMES = ("out", "grad_input", "grad_offset", "grad_mask")
SETTINGS = {
    "plain": dict(),
    "stride 2": dict(stride_h=2, stride_w=2),
    "dilation 2": dict(dilation_h=2, dilation_w=2, padding_h=2, padding_w=2, offset_scale=0.5),
    "5x5": dict(kernel_h=5, kernel_w=5, padding_h=2, padding_w=2),
    "11x11": dict(kernel_h=11, kernel_w=11, padding_h=5, padding_w=5),
    "remove_center": dict(remove_center=True, offset_scale=0.9),
    "not square": dict(kernel_h=3, kernel_w=2, stride_w=3, padding_h=0, dilation_w=2),
    "one point": dict(kernel_h=1, kernel_w=1, padding_h=0, padding_w=0),
    "turned about": dict(offset_scale=-1.5),
    "on pixels": dict(spread=0.0),
    "a little outside": dict(spread=4.0),
    "far outside": dict(spread=30.0),
}


def tensors(shape, setting, spread=1.5, seed=0, dtype=torch.float64):
    """Random input, offset and mask for one call; ``spread`` is the offsets' in pixels."""
    n, height, width, channels = shape
    pair = {key: (v, v) if isinstance(v, int) else v for key, v in setting.items()}
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = (pair[k] for k in ("kernel_size", "stride", "padding", "dilation"))
    place = (n, (height + 2 * ph - dh * (kh - 1) - 1) // sh + 1, (width + 2 * pw - dw * (kw - 1) - 1) // sw + 1)
    points = setting["groups"] * (kh * kw - setting["remove_center"])
    random = torch.Generator().manual_seed(seed)
    return (
        torch.randn(n, height, width, channels, generator=random, dtype=dtype),
        torch.randn(*place, points * 2, generator=random, dtype=dtype) * spread,
        torch.rand(*place, points, generator=random, dtype=dtype),
    )


def setting(**changed):
    plain = dict(kernel_size=3, stride=1, padding=1, dilation=1, groups=2, offset_scale=1.0, remove_center=False)
    return plain | changed


def case(size, groups=2, width=4, dtype=torch.float32, spread=1.5, seed=0, device="cpu", **changed):
    """Tensors (input, offset, mask, gradient of the output) and the geometry of one call."""
    plain = dict(kernel_h=3, kernel_w=3, stride_h=1, stride_w=1, padding_h=1, padding_w=1, dilation_h=1, dilation_w=1)
    geometry = Geometry(**plain | dict(offset_scale=1.0, remove_center=False) | changed, groups=groups)
    images, *area = size
    place = (images, *geometry.output_size(*area))
    random = torch.Generator(device).manual_seed(seed)
    shapes = ((*size, groups * width), (*place, groups * geometry.points * 2), (*place, groups * geometry.points))
    made = [torch.randn(shape, generator=random, device=device) for shape in (*shapes, (*place, groups * width))]
    made[1] *= spread
    return [tensor.to(dtype) for tensor in made], geometry


def on_gpu(tensors, geometry):
    """Output and three gradients, by the operators themselves."""
    *inputs, grad = (tensor.cuda() for tensor in tensors)
    out = torch.ops.ops_dcnv3.dcnv3(*inputs, *geometry)
    return out, *torch.ops.ops_dcnv3.dcnv3_backward(grad, *inputs, *geometry)


def assert_right(kernel, tensors, geometry):
    *inputs, grad = tensors
    expected = reference.forward(*inputs, geometry), *reference.backward(grad, *inputs, geometry)
    for name, value, right in zip(NAMES, kernel(tensors, geometry), expected, strict=True):
        assert value.dtype == right.dtype and value.shape == right.shape
        limit = TOLERANCE[right.dtype] * (right.abs().max().item() if right.numel() else 1)
        assert_close(
            value.cpu().double(), right.double(), rtol=0, atol=limit, msg=lambda text, at=name: f"{at}: {text}"
        )
