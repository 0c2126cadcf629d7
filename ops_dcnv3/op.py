"""The operator ``ops_dcnv3::dcnv3``: its checks, its declaration, its shape contract and its gradient.

``dcnv3`` checks its arguments and calls the operator. Here the operator and its gradient get one kernel for
every device, the reference; the compiled kernels, loaded at the end, register themselves for ``CPU`` and ``CUDA``
under the same two names and take precedence.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ops_dcnv3 import kernels, reference
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

    Samples outside the image are zero, as is one whose location is NaN. Locations are computed in float32 at
    least. The first derivative exists, a second one does not. Under autocast, all three tensors take autocast's
    dtype; otherwise they must have one and the same.

    The CUDA kernels differ in two ways: input's gradient is summed in an order that changes from run to run, and a
    sample outside takes the nearest pixel times zero, so that an infinite one there becomes NaN.

    Args:
        input: floating ``(N, H, W, G·D)``, channels last; group g owns channels ``g·D`` to ``(g+1)·D``.
        offset: ``(N, Ho, Wo, G·P·2)``, (x, y) pairs in pixels, one for each of the P kernel points. Points run
            column by column (x outer, y inner).
        mask: ``(N, Ho, Wo, G·P)``, the weights of the samples; nothing is normalised here.
        kernel_size, stride, padding, dilation: an int, or a pair (height, width). P is the product of
            ``kernel_size``.
        groups: G.
        offset_scale: multiplies the kernel's grid and the offsets, not the step between positions.
        remove_center: leave out the kernel's middle point, so P is one less; needs odd kernel sizes.

    Returns:
        ``(N, Ho, Wo, G·D)`` of ``input``'s dtype, where ``Ho`` and ``Wo`` are a convolution's output size.

    Raises:
        ValueError: names the argument, what was found and what was expected.

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


def _pair(name: str, value, least: int) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2 or not all(isinstance(v, int) and v >= least for v in pair):
        raise ValueError(f"{name}: {value!r} (expected an int of at least {least}, or a pair of them)")
    return pair


def _check(input: Tensor, offset: Tensor, mask: Tensor, geometry: Geometry) -> None:
    groups, points = geometry.groups, geometry.points
    if geometry.remove_center and not (geometry.kernel_h % 2 and geometry.kernel_w % 2):
        size = (geometry.kernel_h, geometry.kernel_w)
        raise ValueError(f"kernel_size: {size} (expected odd numbers with remove_center)")
    if input.dim() != 4 or not input.is_floating_point():
        found = f"{tuple(input.shape)} of {input.dtype}"
        raise ValueError(f"input: shape {found} (expected a floating (N, H, W, groups·D))")
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
            found = tuple(tensor.shape)
            raise ValueError(f"{name}: shape {found} (expected {(*place, width)}: {meaning})")
        same_dtype = tensor.dtype == input.dtype or torch.is_autocast_enabled(input.device.type)
        if not same_dtype or tensor.device != input.device:
            found, expected = f"{tensor.dtype} on {tensor.device}", f"{input.dtype} on {input.device}"
            raise ValueError(f"{name}: {found} (expected input's: {expected})")


def _forward(input, offset, mask, *settings):
    kernels.warn_of_slowness(input.device.type)
    return reference.forward(input, offset, mask, Geometry(*settings))


def _backward(grad, input, offset, mask, *settings):
    kernels.warn_of_slowness(input.device.type)
    return reference.backward(grad, input, offset, mask, Geometry(*settings))


torch.library.impl("ops_dcnv3::dcnv3", "default", _forward)
torch.library.impl("ops_dcnv3::dcnv3_backward", "default", _backward)


@torch.library.register_fake("ops_dcnv3::dcnv3")
def _(input, offset, mask, *settings):
    return input.new_empty((*offset.shape[:3], input.shape[3]))


@torch.library.register_fake("ops_dcnv3::dcnv3_backward")
def _(grad, input, offset, mask, *settings):
    return tuple(t.new_empty(t.shape) for t in (input, offset, mask))


def _save(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:3])
    ctx.settings = inputs[3:]


def _differentiate(ctx, grad):
    grads = torch.ops.ops_dcnv3.dcnv3_backward(grad, *ctx.saved_tensors, *ctx.settings)
    return *grads, *(None for _ in ctx.settings)


def _refuse(ctx, *grads):
    # Without this, autograd would take the gradient's own gradient for zero.
    raise NotImplementedError("ops_dcnv3::dcnv3 has no second derivative")


torch.library.register_autograd("ops_dcnv3::dcnv3", _differentiate, setup_context=_save)
torch.library.register_autograd("ops_dcnv3::dcnv3_backward", _refuse)


def _autocast(device: str):
    def cast_and_run(input, offset, mask, *settings):
        dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            # As autocast does elsewhere, float64 is left alone.
            cast = (t if t.dtype == torch.float64 else t.to(dtype) for t in (input, offset, mask))
            return torch.ops.ops_dcnv3.dcnv3(*cast, *settings)

    return cast_and_run


_LIBRARY = torch.library.Library("ops_dcnv3", "IMPL")
_LIBRARY.impl("dcnv3", _autocast("cpu"), "AutocastCPU")
_LIBRARY.impl("dcnv3", _autocast("cuda"), "AutocastCUDA")

kernels.load()
