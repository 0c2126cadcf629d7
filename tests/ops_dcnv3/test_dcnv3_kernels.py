"""The compiled CPU kernels against the PyTorch implementation; skipped where they are not built."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ops_dcnv3 import DCNv3, dcnv3, kernels, reference_only

pytestmark = pytest.mark.skipif("cpu" in kernels.absent, reason=f"no kernels: {kernels.absent.get('cpu')}")


def case(seed=0, n=2, height=7, width=9, groups=3, depth=5, kernel=3, dtype=torch.float32, spread=1.0, **options):
    """Random arguments of ``dcnv3`` that need gradients."""
    stride, dilation = options.get("stride", 1), options.get("dilation", 1)
    padding = options.setdefault("padding", dilation * (kernel - 1) // 2)
    out_h, out_w = ((size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1 for size in (height, width))
    points = kernel * kernel - options.get("remove_center", False)
    rng = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype).requires_grad_()

    offset = (random(n, out_h, out_w, groups * points * 2).detach() * spread).requires_grad_()
    tensors = random(n, height, width, groups * depth), offset, random(n, out_h, out_w, groups * points)
    return tensors, dict(kernel_size=kernel, groups=groups, **options)


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
    options = dict(stride=stride, dilation=dilation, offset_scale=0.7, remove_center=center and kernel > 1, spread=far)
    arguments = case(seed, n, height, width, groups, depth, kernel, **options)
    assert_same(arguments, 1e-5)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)]
)
def test_kernels_serve_all_floating_types(dtype, tolerance):
    assert_same(case(depth=16, dtype=dtype), tolerance)


def test_strided_inputs_are_read_right():
    (x, offset, mask), options = case()
    turned = x.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
    assert not turned.is_contiguous()
    assert torch.equal(dcnv3(turned, offset, mask, **options), dcnv3(x, offset, mask, **options))


def test_results_do_not_depend_on_the_number_of_threads():
    arguments = case(n=1, height=40, width=40, depth=16)
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
    (x, offset, mask), _ = case(dtype=torch.float64)
    geometry = (3, 3, 1, 1, 1, 1, 1, 1, 3, 1.0, False)
    torch.library.opcheck(torch.ops.ops_dcnv3.dcnv3.default, (x, offset, mask, *geometry))
    tensors = (torch.randn_like(dcnv3(x, offset, mask, groups=3)), x, offset, mask)
    tensors = [tensor.detach() for tensor in tensors]
    torch.library.opcheck(torch.ops.ops_dcnv3.dcnv3_backward.default, (*tensors, *geometry))


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
