"""The compiled CPU kernels against the PyTorch implementation; skipped where they are not built."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ops_dcnv3 import DCNv3, dcnv3, kernels, reference_only
from tests.ops_dcnv3.builders import SAMPLES, geometry, setting, tensors

pytestmark = pytest.mark.skipif("cpu" in kernels.absent, reason=f"no kernels: {kernels.absent.get('cpu')}")


def case(shape=(2, 7, 9, 15), seed=0, dtype=torch.float32, spread=1.0, **changed):
    """Random arguments of ``dcnv3`` that need gradients."""
    arguments = setting(**dict(groups=3) | changed)
    return [tensor.to(dtype).requires_grad_() for tensor in tensors(shape, arguments, spread, seed)], arguments


def value_and_gradients(tensors, options):
    out = dcnv3(*tensors, **options)
    return out.detach(), *torch.autograd.grad(
        out, tensors, torch.sin(torch.arange(out.numel())).view(out.shape).to(out)
    )


def assert_same(arguments, tolerance):
    found = value_and_gradients(*arguments)
    with reference_only():
        expected = value_and_gradients(*arguments)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(
            a, b, rtol=tolerance, atol=tolerance * (1 + b.abs().max().item() if b.numel() else 1)
        )


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 999),
    st.integers(0, 3),
    st.integers(3, 12),
    st.integers(3, 12),
    st.integers(1, 4),
    st.sampled_from([1, 3, 4, 7, 8, 16, 17, 32, 50]),
    st.sampled_from([1, 3, 5]),
    st.integers(1, 2),
    st.integers(1, 2),
    st.booleans(),
    st.sampled_from([0.5, 3.0, 100.0]),
)
def test_kernels_equal_the_pytorch_implementation(
    seed, n, height, width, groups, depth, kernel, stride, dilation, center, far
):
    options = dict(kernel_size=kernel, stride=stride, dilation=dilation, padding=dilation * (kernel - 1) // 2)
    options |= dict(groups=groups, offset_scale=0.7, remove_center=center and kernel > 1)
    assert_same(case((n, height, width, groups * depth), seed, spread=far, **options), 1e-5)


@pytest.mark.parametrize("name", SAMPLES)
def test_kernels_equal_the_pytorch_implementation_on_every_sample(name):
    arguments, spread = SAMPLES[name]
    assert_same(case((2, 13, 17, 12), spread=spread, **arguments), 1e-5)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)]
)
def test_kernels_serve_all_floating_types(dtype, tolerance):
    assert_same(case((2, 7, 9, 48), dtype=dtype), tolerance)


def test_strided_inputs_are_read_right():
    (x, offset, mask), options = case()
    turned = x.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
    assert not turned.is_contiguous()
    assert torch.equal(dcnv3(turned, offset, mask, **options), dcnv3(x, offset, mask, **options))


def test_results_do_not_depend_on_the_number_of_threads():
    arguments = case((1, 40, 40, 48))
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(value_and_gradients(*arguments))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


def test_opcheck():
    inputs, arguments = case(dtype=torch.float64)
    call = geometry(arguments)
    torch.library.opcheck(torch.ops.ops_dcnv3.dcnv3.default, (*inputs, *call))
    inputs = [tensor.detach() for tensor in (torch.randn_like(dcnv3(*inputs, **arguments)), *inputs)]
    torch.library.opcheck(torch.ops.ops_dcnv3.dcnv3_backward.default, (*inputs, *call))


def test_the_module_compiles_and_exports_whole():
    layer, x = DCNv3(channels=16, group=2).eval(), torch.randn(1, 6, 7, 16)
    with torch.no_grad():
        expected = layer(x)
        assert torch.allclose(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), expected, atol=1e-6)
        assert torch.allclose(torch.export.export(layer, (x,)).module()(x), expected, atol=1e-6)


def test_autocast_runs_in_one_dtype():
    layer, x = DCNv3(channels=16, group=2), torch.randn(1, 6, 7, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), layer(x), rtol=0.05, atol=0.05)
    out.float().sum().backward()
    assert torch.isfinite(layer.offset.weight.grad).all()
