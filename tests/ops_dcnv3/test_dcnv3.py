import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from ops_dcnv3 import DCNv3, dcnv3, kernels
from tests.ops_dcnv3.builders import SAMPLES, setting, tensors

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "dcnv3_op.npz")


def slowly(input, offset, mask, *, kernel_size, stride, padding, dilation, groups, offset_scale, remove_center):
    """The operator sample by sample, written from its definition."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = kernel_size, stride, padding, dilation
    n, height, width, channels = input.shape
    grid = [(i, j) for i in range(kw) for j in range(kh) if not (remove_center and i == kw // 2 and j == kh // 2)]
    d, out = channels // groups, np.zeros((*offset.shape[:3], channels))
    offset = offset.reshape(*offset.shape[:3], groups, len(grid), 2)
    for b, y, x, g, p in np.ndindex(*offset.shape[:5]):
        i, j = grid[p]
        reach_x, reach_y = dw * (kw - 1) // 2, dh * (kh - 1) // 2
        at_x = x * sw - pw + reach_x + (i * dw - reach_x + offset[b, y, x, g, p, 0]) * offset_scale
        at_y = y * sh - ph + reach_y + (j * dh - reach_y + offset[b, y, x, g, p, 1]) * offset_scale
        for row in (int(np.floor(at_y)), int(np.floor(at_y)) + 1):
            for column in (int(np.floor(at_x)), int(np.floor(at_x)) + 1):
                if 0 <= row < height and 0 <= column < width:
                    weight = (1 - abs(at_y - row)) * (1 - abs(at_x - column)) * mask[b, y, x, g * len(grid) + p]
                    out[b, y, x, g * d : (g + 1) * d] += weight * input[b, row, column, g * d : (g + 1) * d]
    return out


@pytest.mark.parametrize("case", range(6))
def test_parity_with_the_public_operator(case):
    names = ("args", "input", "offset", "mask", "out", "grad_out", "grad_input", "grad_offset", "grad_mask")
    stored = {name: torch.from_numpy(GOLDEN[f"{case}/{name}"]).double() for name in names}
    kernel, stride, padding, dilation, groups, _, scale, remove_center = stored["args"].tolist()
    inputs = [stored[name].requires_grad_() for name in ("input", "offset", "mask")]
    out = dcnv3(
        *inputs,
        kernel_size=int(kernel),
        stride=int(stride),
        padding=int(padding),
        dilation=int(dilation),
        groups=int(groups),
        offset_scale=scale,
        remove_center=bool(remove_center),
    )
    grads = torch.autograd.grad(out, inputs, stored["grad_out"])
    for name, value in zip(("out", "grad_input", "grad_offset", "grad_mask"), (out, *grads), strict=True):
        assert_close(value, stored[name], rtol=0, atol=1e-6 * stored[name].abs().max().item(), msg=name)


def pairs(least, most):
    return st.tuples(st.integers(least, most), st.integers(least, most))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    kernel_size=pairs(1, 4),
    stride=pairs(1, 3),
    padding=pairs(0, 2),
    dilation=pairs(1, 2),
    groups=st.integers(1, 3),
    width=st.integers(1, 3),
    size=pairs(7, 9),
    offset_scale=st.sampled_from([0.5, 1.0, 2.0]),
    spread=st.sampled_from([0.0, 1.0, 30.0]),
    remove_center=st.booleans(),
)
def test_it_is_its_definition(width, size, groups, spread, **rest):
    kernel = rest["kernel_size"]
    rest["remove_center"] &= kernel[0] % 2 == 1 and kernel[1] % 2 == 1 and kernel != (1, 1)
    inputs = tensors((1, *size, groups * width), rest | dict(groups=groups), spread)
    expected = slowly(*(t.numpy() for t in inputs), groups=groups, **rest)
    assert_close(dcnv3(*inputs, groups=groups, **rest), torch.from_numpy(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in ("11x11", "on pixels")])
def test_gradients_in_float64(name):
    arguments, spread = SAMPLES[name]  # on a pixel, differences do not give the derivative
    inputs = [t.requires_grad_() for t in tensors((1, 3, 4, 6), arguments, spread)]
    assert torch.autograd.gradcheck(lambda *t: dcnv3(*t, **arguments), inputs)


def test_it_is_a_well_behaved_operator():
    inputs = [t.requires_grad_() for t in tensors((2, 4, 5, 4), setting(), dtype=torch.float32)]
    torch.library.opcheck(torch.ops.ops_dcnv3.dcnv3.default, (*inputs, 3, 3, 1, 1, 1, 1, 1, 1, 2, 1.0, False))


def test_on_a_pixel_the_derivative_is_the_one_toward_plus():
    input, offset, mask = tensors((1, 5, 5, 4), setting(), spread=0.0)
    gradients = []
    for shift in (0.0, 1e-9):
        moved = (offset + shift).requires_grad_()
        gradients += torch.autograd.grad(dcnv3(input, moved, mask, groups=2).sum(), moved)
    assert_close(*gradients, rtol=0, atol=1e-7)


def test_lost_locations_sample_zeros():
    input, offset, mask = tensors((1, 4, 4, 4), setting())
    for lost in (1e30, -1e30, float("inf"), float("-inf"), float("nan")):
        inputs = [t.requires_grad_() for t in (input.clone(), torch.full_like(offset, lost), mask.clone())]
        out = dcnv3(*inputs, groups=2)
        assert not out.any()
        assert not any(grad.any() for grad in torch.autograd.grad(out.sum(), inputs))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_rounds_the_values_not_the_locations(dtype):
    inputs = [t.to(dtype) for t in tensors((1, 3, 700, 4), setting(), dtype=torch.float32)]
    exact = [t.double().requires_grad_() for t in inputs]
    expected = dcnv3(*exact, groups=2)
    inputs = [t.requires_grad_() for t in inputs]
    out = dcnv3(*inputs, groups=2)
    assert out.dtype == dtype
    eps = torch.finfo(dtype).eps
    for value, right in zip(
        (out, *torch.autograd.grad(out.sum(), inputs)),
        (expected, *torch.autograd.grad(expected.sum(), exact)),
        strict=True,
    ):
        assert value.dtype == dtype
        assert_close(value.double(), right, rtol=eps, atol=eps * right.abs().max().item())


def test_any_memory_layout_will_do():
    inputs = tensors((2, 4, 5, 4), setting())
    strided = [t.transpose(1, 3).contiguous().transpose(1, 3) for t in inputs]
    assert_close(dcnv3(*strided, groups=2), dcnv3(*inputs, groups=2), rtol=0, atol=0)


def test_shapes_without_values():
    inputs = [t.to("meta") for t in tensors((2, 8, 7, 4), setting(stride=2))]
    assert dcnv3(*inputs, groups=2, stride=2).shape == (2, 4, 4, 4)


def test_there_is_no_second_derivative():
    inputs = [t.requires_grad_() for t in tensors((1, 4, 4, 4), setting())]
    grad = torch.autograd.grad(dcnv3(*inputs, groups=2).sum(), inputs[1], create_graph=True)[0]
    with pytest.raises(NotImplementedError, match="second derivative"):
        grad.sum().backward()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(kernel_size=0), r"kernel_size: 0 \(expected an int of at least 1, or a pair"),
        (dict(stride=(1, 2, 3)), r"stride: \(1, 2, 3\)"),
        (dict(padding=1.5), r"padding: 1.5 \(expected an int"),
        (dict(groups=3), r"groups: 3 \(expected a divisor of input's 4 channels\)"),
        (dict(kernel_size=2, remove_center=True), r"kernel_size: \(2, 2\) \(expected odd"),
        (dict(kernel_size=9), r"input: shape \(1, 4, 5, 4\) \(smaller than the kernel"),
        (dict(stride=2), r"offset: shape \(1, 4, 5, 36\) \(expected \(1, 2, 3, 36\): N, Ho, Wo, groups·points·2\)"),
        (dict(input=torch.zeros(4, 5, 4)), r"input: shape \(4, 5, 4\) of torch.float32 \(expected a floating"),
        (dict(input=torch.zeros(1, 4, 5, 4, dtype=torch.int64)), r"input: shape .* of torch.int64"),
        (dict(mask=torch.zeros(1, 4, 5, 9)), r"mask: shape \(1, 4, 5, 9\) \(expected \(1, 4, 5, 18\)"),
        (dict(mask=torch.zeros(1, 4, 5, 18).double()), r"mask: torch.float64 on cpu \(expected input's: torch.float32"),
    ],
)
def test_wrong_arguments_are_named(changed, message):
    input, offset, mask = tensors((1, 4, 5, 4), setting(), dtype=torch.float32)
    arguments = dict(input=input, offset=offset, mask=mask, groups=2) | changed
    with pytest.raises(ValueError, match=message):
        dcnv3(**arguments)


def test_a_new_layer_averages_its_neighbourhood():
    torch.manual_seed(0)
    layer = DCNv3(channels=8, group=2).double()
    image = torch.randn(1, 5, 6, 8, dtype=torch.float64)
    projected = layer.input_proj(image).permute(0, 3, 1, 2)
    mean = torch.nn.functional.avg_pool2d(projected, 3, stride=1, padding=1).permute(0, 2, 3, 1)
    assert_close(layer(image), layer.output_proj(mean))


@pytest.mark.parametrize(
    "arguments",
    [
        dict(kernel_size=5, pad=2, dw_kernel_size=3),
        dict(stride=2),
        dict(dilation=2, pad=2, norm_layer="BN", act_layer="SiLU"),
        dict(remove_center=True, center_feature_scale=True),
    ],
)
def test_every_variant_of_the_layer_learns(arguments):
    layer = DCNv3(channels=8, group=2, **arguments)
    image = torch.randn(2, 7, 6, 8)
    out = layer(image)
    step = arguments.get("stride", 1)
    assert out.shape == (2, (7 - 1) // step + 1, (6 - 1) // step + 1, 8)
    out.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


def test_the_layer_runs_under_autocast():
    layer = DCNv3(channels=8, group=2, center_feature_scale=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(torch.randn(1, 4, 4, 8))
    assert out.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(group=3), "group: 3"),
        (dict(dw_kernel_size=4), "dw_kernel_size: 4"),
        (dict(kernel_size=5), r"pad: 1 \(expected 2 with kernel_size 5"),
        (dict(stride=2, center_feature_scale=True), "stride: 2"),
        (dict(act_layer="Tanh"), "act_layer: 'Tanh'"),
        (dict(norm_layer="GN"), "norm_layer: 'GN'"),
    ],
)
def test_contradictory_layers_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DCNv3(channels=8, **dict(group=2) | arguments)


def test_missing_kernels_are_said_once(monkeypatch):
    monkeypatch.setattr(kernels, "absent", {"cpu": "not built"})
    monkeypatch.setattr(kernels, "_warned", False)
    assert "no CPU kernels (not built)" in kernels.shortcoming("cpu") and kernels.shortcoming("cuda") == ""
    monkeypatch.setenv(kernels.WARNED, "1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kernels._warn_once("cpu")
    monkeypatch.delenv(kernels.WARNED)
    with pytest.warns(UserWarning, match="no CPU kernels"):
        kernels._warn_once("cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kernels._warn_once("cpu")
