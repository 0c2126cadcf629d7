"""What only a GPU can show of the CUDA kernels; test_dcnv3_cuda.py holds what an emulation shows as well.

``python -m pytest -m gpu`` runs both.
"""

import pytest
import torch
from torch.testing import assert_close

from ops_dcnv3 import kernels
from tests.ops_dcnv3.builders import SAMPLES, TOLERANCE, assert_right, case, on_gpu, sample

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.fixture(scope="module", autouse=True)
def built():
    """Without them the tests would compare the PyTorch implementation with itself."""
    if "cuda" in kernels.absent:
        pytest.fail(f"no CUDA kernels: {kernels.absent['cuda']}. Run `python -m ops_dcnv3.build`.")


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("width", [3, 8])
def test_gradients_in_float64(width, name):
    (*inputs, _), geometry = sample(name, (1, 4, 5), width=width, dtype=torch.float64)
    if name == "on pixels":
        inputs[1] += 0.5  # on a pixel, differences do not give the derivative
    inputs = [tensor.cuda().requires_grad_() for tensor in inputs]
    assert torch.autograd.gradcheck(
        lambda *tensors: torch.ops.ops_dcnv3.dcnv3(*tensors, *geometry), inputs, nondet_tol=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_any_memory_layout_will_do(dtype):
    tensors, geometry = case((2, 6, 5), width=8, dtype=dtype)
    expected = on_gpu(tensors, geometry)
    turned = [tensor.cuda().transpose(1, 3).contiguous().transpose(1, 3) for tensor in tensors]
    # One element into their storage, so 16-byte loads would be misaligned.
    shifted = [torch.cat([t.flatten()[:1], t.flatten()]).cuda()[1:].view(t.shape) for t in tensors]
    for layout in (turned, shifted):
        for a, b in zip(on_gpu(layout, geometry), expected, strict=True):
            assert_close(a, b, rtol=0, atol=TOLERANCE[dtype] * b.abs().max().item())


@pytest.mark.parametrize("size", [(0, 4, 5), (1, 0, 3), (2, 0, 0)])
def test_empty_batches_and_images(size):
    assert_right(on_gpu, *case(size, padding=2))


def test_the_operators_are_well_behaved():
    (*inputs, grad), geometry = case((2, 4, 5))
    inputs = [tensor.cuda().requires_grad_() for tensor in inputs]
    torch.library.opcheck(torch.ops.ops_dcnv3.dcnv3.default, (*inputs, *geometry))
    inputs = [tensor.detach() for tensor in inputs]
    torch.library.opcheck(torch.ops.ops_dcnv3.dcnv3_backward.default, (grad.cuda(), *inputs, *geometry))


def test_wrong_arguments_do_not_reach_the_kernels():
    (input, offset, mask, _), geometry = case((1, 4, 5))
    for wrong in (
        (input.cuda(), offset[:, 1:].cuda(), mask.cuda()),
        (input.cuda(), offset.cuda(), mask.cuda().double()),
        (input.cuda()[..., :5], offset.cuda(), mask.cuda()),
    ):
        with pytest.raises(RuntimeError):
            torch.ops.ops_dcnv3.dcnv3(*wrong, *geometry)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_cuda_graph_replays_it(dtype):
    tensors, geometry = case((1, 16, 24), groups=4, width=16, dtype=dtype)
    static = [tensor.cuda() for tensor in tensors]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        on_gpu(static, geometry)  # warm-up: modules load now, not while capturing
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = on_gpu(static, geometry)
    for seed in (1, 2):
        fresh, _ = case((1, 16, 24), groups=4, width=16, dtype=dtype, seed=seed)
        for to, new in zip(static, fresh, strict=True):
            to.copy_(new)
        graph.replay()
        for a, b in zip(results, on_gpu(fresh, geometry), strict=True):
            assert_close(a, b, rtol=0, atol=TOLERANCE[dtype] * b.abs().max().item())


def test_it_runs_on_the_current_stream():
    tensors, geometry = case((1, 16, 24), groups=4, width=16)
    expected = on_gpu(tensors, geometry)
    tensors = [tensor.cuda() for tensor in tensors]
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        late = [torch.zeros_like(tensor) for tensor in tensors]
        torch.cuda._sleep(int(2e8))  # a tenth of a second: on another stream the kernels would read the zeros
        for to, tensor in zip(late, tensors, strict=True):
            to.copy_(tensor)
        results = on_gpu(late, geometry)
        assert not side.query(), "something waited for the device"
    side.synchronize()
    for a, b in zip(results, expected, strict=True):
        assert_close(a, b, rtol=0, atol=5e-6 * b.abs().max().item())


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two devices")
def test_it_runs_on_the_tensors_device():
    tensors, geometry = case((1, 6, 7))
    expected = on_gpu(tensors, geometry)[0]
    *inputs, _ = (tensor.to("cuda:1") for tensor in tensors)
    assert_close(torch.ops.ops_dcnv3.dcnv3(*inputs, *geometry).cpu(), expected.cpu(), rtol=0, atol=0)


def needs(gigabytes):
    if torch.cuda.mem_get_info()[0] < gigabytes * 1e9:
        pytest.skip(f"needs {gigabytes} GB of free GPU memory")


def test_a_batch_of_over_2_to_the_31_elements():
    needs(32)
    tensors, geometry = case((33, 512, 256), groups=1, width=512, dtype=torch.bfloat16, device="cuda", seed=3)
    assert tensors[0].numel() > 2**31
    together = on_gpu(tensors, geometry)
    for image in (0, -1):
        alone = on_gpu([tensor[image].unsqueeze(0) for tensor in tensors], geometry)
        for a, b in zip(together, alone, strict=True):
            assert_close(a[image].unsqueeze(0), b, rtol=0, atol=TOLERANCE[torch.bfloat16] * b.abs().max().item())


def test_an_image_of_over_2_to_the_31_elements():
    needs(32)
    tensors, geometry = case((1, 2050, 2050), groups=1, width=512, dtype=torch.bfloat16, device="cuda", seed=3)
    assert tensors[0].numel() > 2**31
    # Quarters of a pixel are exact, however far down the image.
    tensors[1] = (tensors[1] * 2).round().clamp(-8, 8) / 4
    whole = on_gpu(tensors, geometry)
    for part, rows in ((slice(0, 32), slice(0, 24)), (slice(-32, None), slice(-24, None))):
        cut = on_gpu([tensor[:, part].contiguous() for tensor in tensors], geometry)
        for a, b in zip(whole, cut, strict=True):
            # The rows that no sample across the cut reaches, in either direction.
            assert_close(a[:, rows], b[:, rows], rtol=0, atol=TOLERANCE[torch.bfloat16] * b.abs().max().item())
