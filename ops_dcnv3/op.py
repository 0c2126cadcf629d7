"""The operator ``ops_dcnv3::dcnv3``: declaration, checks, shape contract, gradient and autocast.

``dcnv3`` checks its arguments and calls the operator. The PyTorch implementation is registered for every device. The
compiled kernels, loaded at the end, register themselves for ``CPU`` and ``CUDA`` and take precedence.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ops_dcnv3 import kernels
from ops_dcnv3.reference import Geometry

_TENSORS = "Tensor input, Tensor offset, Tensor mask"
_SETTINGS = (
    "int kernel_h, int kernel_w, int stride_h, int stride_w, int padding_h, int padding_w, "
    "int dilation_h, int dilation_w, int groups, float offset_scale, bool remove_center"
)
torch.library.define("ops_dcnv3::dcnv3", f"({_TENSORS}, {_SETTINGS}) -> Tensor")
torch.library.define("ops_dcnv3::dcnv3_backward", f"(Tensor grad, {_TENSORS}, {_SETTINGS}) -> (Tensor, Tensor, Tensor)")


def dcnv3(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    *,
    kernel_size: int | tuple[int, int] = 3,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 1,
    dilation: int | tuple[int, int] = 1,
    groups: int,
    offset_scale: float = 1.0,
    remove_center: bool = False,
) -> Tensor:
    """Deformable convolution v3: per group, a weighted sum of bilinear samples around each position.

    Samples outside the image are zero, as are samples at NaN. Locations are computed at least in float32. There is a
    first derivative, but no second one. Under autocast all three tensors are cast to autocast's dtype; otherwise their
    dtypes must be equal.

    CUDA kernels differ in two ways. The order in which they sum input's gradient changes from run to run. A sample
    outside the image is the nearest pixel times zero, so an infinite pixel gives NaN.

    Args:
        input: floating ``(N, H, W, G·D)``, channels last; group g has the channels ``g·D`` to ``(g+1)·D``.
        offset: ``(N, Ho, Wo, G·P·2)``, pairs (x, y) in pixels for each of the P kernel points, in the order of
            columns (x outer, y inner).
        mask: ``(N, Ho, Wo, G·P)``, weights of the samples, used as they are.
        kernel_size, stride, padding, dilation: an int, or a pair (height, width). P is the product of
            ``kernel_size``.
        groups: G.
        offset_scale: factor on the kernel's grid and the offsets, not on the step between positions.
        remove_center: leave out the kernel's middle point, which makes P one less; needs odd kernel sizes.

    Returns:
        ``(N, Ho, Wo, G·D)`` of ``input``'s dtype, where ``Ho`` and ``Wo`` are a convolution's output size.

    Raises:
        ValueError: an argument is wrong; the message names it, its value and the expected one.

    Source: Wang et al., "InternImage: Exploring Large-Scale Vision Foundation Models with Deformable
    Convolutions", CVPR 2023, equation 2.
    """
    geometry = Geometry(
        *_pair("kernel_size", kernel_size, 1),
        *_pair("stride", stride, 1),
        *_pair("padding", padding, 0),
        *_pair("dilation", dilation, 1),
        groups,
        float(offset_scale),
        bool(remove_center),
    )
    _check(input, offset, mask, geometry)
    return torch.ops.ops_dcnv3.dcnv3(input, offset, mask, *geometry)


def _pair(name: str, value, minimum: int) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2 or not all(isinstance(v, int) and v >= minimum for v in pair):
        raise ValueError(f"{name}: {value!r} (expected an int of at least {minimum}, or a pair of them)")
    return pair


def _check(input: Tensor, offset: Tensor, mask: Tensor, geometry: Geometry) -> None:
    groups, points = geometry.groups, geometry.points
    if geometry.remove_center and not (geometry.kernel_h % 2 and geometry.kernel_w % 2):
        size = (geometry.kernel_h, geometry.kernel_w)
        raise ValueError(f"kernel_size: {size} (expected odd numbers with remove_center)")
    if input.dim() != 4 or not input.is_floating_point():
        shape = f"{tuple(input.shape)} of {input.dtype}"
        raise ValueError(f"input: shape {shape} (expected a floating (N, H, W, groups·D))")
    if groups < 1 or input.shape[3] % groups:
        raise ValueError(f"groups: {groups} (expected a divisor of input's {input.shape[3]} channels)")
    out_h, out_w = geometry.output_size(*input.shape[1:3])
    if out_h < 1 or out_w < 1:
        raise ValueError(f"input: shape {tuple(input.shape)} (smaller than the kernel, even with padding)")
    place = (input.shape[0], out_h, out_w)
    for name, tensor, width, meaning in (
        ("offset", offset, groups * points * 2, "N, Ho, Wo, groups·points·2"),
        ("mask", mask, groups * points, "N, Ho, Wo, groups·points"),
    ):
        if tensor.shape != (*place, width):
            expected = (*place, width)
            raise ValueError(f"{name}: shape {tuple(tensor.shape)} (expected {expected}: {meaning})")
        same_dtype = tensor.dtype == input.dtype or torch.is_autocast_enabled(input.device.type)
        if not same_dtype or tensor.device != input.device:
            input_type = f"{input.dtype} on {input.device}"
            raise ValueError(f"{name}: {tensor.dtype} on {tensor.device} (expected input's: {input_type})")


torch.library.impl("ops_dcnv3::dcnv3", "default", kernels.reference_forward)
torch.library.impl("ops_dcnv3::dcnv3_backward", "default", kernels.reference_backward)


# torch.compile and torch.export trace programs with fake tensors, which have a shape and a dtype but no data. The fake
# kernels below tell them the results' shapes: (N, Ho, Wo, G·D) for the operator, those of the inputs for its gradient.
@torch.library.register_fake("ops_dcnv3::dcnv3")
def _fake_forward(input: Tensor, offset: Tensor, mask: Tensor, *settings) -> Tensor:
    return input.new_empty((*offset.shape[:3], input.shape[3]))


@torch.library.register_fake("ops_dcnv3::dcnv3_backward")
def _fake_backward(grad: Tensor, input: Tensor, offset: Tensor, mask: Tensor, *settings) -> tuple[Tensor, ...]:
    return tuple(tensor.new_empty(tensor.shape) for tensor in (input, offset, mask))


def _save(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:3])
    ctx.settings = inputs[3:]


def _differentiate(ctx, grad):
    grads = torch.ops.ops_dcnv3.dcnv3_backward(grad, *ctx.saved_tensors, *ctx.settings)
    return *grads, *(None for _ in ctx.settings)


def _refuse(ctx, *grads):
    # Without this function autograd would take the second derivative to be zero.
    raise NotImplementedError("ops_dcnv3::dcnv3 has no second derivative")


torch.library.register_autograd("ops_dcnv3::dcnv3", _differentiate, setup_context=_save)
torch.library.register_autograd("ops_dcnv3::dcnv3_backward", _refuse)


def _autocast(device: str):
    def cast_and_run(input, offset, mask, *settings):
        dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            # As elsewhere in autocast, float64 stays.
            cast = (t if t.dtype == torch.float64 else t.to(dtype) for t in (input, offset, mask))
            return torch.ops.ops_dcnv3.dcnv3(*cast, *settings)

    return cast_and_run


_LIBRARY = torch.library.Library("ops_dcnv3", "IMPL")
_LIBRARY.impl("dcnv3", _autocast("cpu"), "AutocastCPU")
_LIBRARY.impl("dcnv3", _autocast("cuda"), "AutocastCUDA")

kernels.load()
