"""Sample inputs of the operator, for all its tests, and comparisons with the PyTorch implementation."""

from typing import NamedTuple

import torch
from torch.testing import assert_close

from ops_dcnv3 import reference
from ops_dcnv3.reference import Geometry


def setting(**changed) -> dict:
    """Arguments of ``dcnv3`` beside its tensors."""
    plain = dict(kernel_size=3, stride=1, padding=1, dilation=1, groups=2, offset_scale=1.0, remove_center=False)
    return plain | changed


class Sample(NamedTuple):
    arguments: dict
    spread: float = 1.5
    """Standard deviation of the offsets, pixels."""


SAMPLES = {
    "plain": Sample(setting()),
    "stride 2": Sample(setting(stride=2)),
    "dilation 2": Sample(setting(dilation=2, padding=2, offset_scale=0.5)),
    "5x5": Sample(setting(kernel_size=5, padding=2)),
    "11x11": Sample(setting(kernel_size=11, padding=5)),
    "remove_center": Sample(setting(remove_center=True, offset_scale=0.9)),
    "not square": Sample(setting(kernel_size=(3, 2), stride=(1, 3), padding=(0, 1), dilation=(1, 2))),
    "one point": Sample(setting(kernel_size=1, padding=0)),
    "negative scale": Sample(setting(offset_scale=-1.5)),
    "on pixels": Sample(setting(), 0.0),
    "a little outside": Sample(setting(), 4.0),
    "far outside": Sample(setting(), 30.0),
}


def geometry(arguments: dict) -> Geometry:
    """The arguments in the order of the operator's schema."""
    names = ("kernel_size", "stride", "padding", "dilation")
    pairs = [size if isinstance(size, tuple) else (size, size) for size in (arguments[name] for name in names)]
    rest = (arguments[name] for name in ("groups", "offset_scale", "remove_center"))
    return Geometry(*(size for pair in pairs for size in pair), *rest)


def tensors(shape, arguments, spread=1.5, seed=0, dtype=torch.float64, device="cpu"):
    """Random input ``(N, H, W, C)``, offset and mask for one call."""
    batch, height, width, channels = shape
    call = geometry(arguments)
    place = (batch, *call.output_size(height, width))
    count = call.groups * call.points
    random = torch.Generator(device).manual_seed(seed)
    make = dict(generator=random, dtype=dtype, device=device)
    return (
        torch.randn(batch, height, width, channels, **make),
        torch.randn(*place, count * 2, **make) * spread,
        torch.randn(*place, count, **make),
    )


TOLERANCE = {torch.float32: 5e-6, torch.float64: 1e-13, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
"""Of the largest magnitude: two roundings to the type, or the order of the sums."""
NAMES = ("out", "grad_input", "grad_offset", "grad_mask")


def case(size, width=4, dtype=torch.float32, spread=1.5, seed=0, device="cpu", **changed):
    """Tensors (input, offset, mask, gradient of the output) and the geometry of one call."""
    arguments = setting(**changed)
    shape = (*size, arguments["groups"] * width)
    inputs = tensors(shape, arguments, spread, seed, torch.float32, device)
    random = torch.Generator(device).manual_seed(seed + 1000)
    grad = torch.randn(*inputs[1].shape[:3], shape[3], generator=random, device=device)
    return [tensor.to(dtype) for tensor in (*inputs, grad)], geometry(arguments)


def sample(name, size, **changed):
    """The case of a sample."""
    arguments, spread = SAMPLES[name]
    return case(size, spread=spread, **arguments | changed)


def on_gpu(inputs, call):
    """Output and three gradients, by the operators themselves."""
    *inputs, grad = (tensor.cuda() for tensor in inputs)
    out = torch.ops.ops_dcnv3.dcnv3(*inputs, *call)
    return out, *torch.ops.ops_dcnv3.dcnv3_backward(grad, *inputs, *call)


def assert_right(kernel, inputs, call):
    *arguments, grad = inputs
    expected = reference.forward(*arguments, call), *reference.backward(grad, *arguments, call)
    for name, value, right in zip(NAMES, kernel(inputs, call), expected, strict=True):
        assert value.dtype == right.dtype and value.shape == right.shape
        limit = TOLERANCE[right.dtype] * (right.abs().max().item() if right.numel() else 1)
        assert_close(
            value.cpu().double(), right.double(), rtol=0, atol=limit, msg=lambda text, at=name: f"{at}: {text}"
        )
