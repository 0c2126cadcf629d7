"""The CUDA kernels against the PyTorch implementation: on a GPU (``pytest -m gpu``), and emulated without one.

The emulation compiles the kernels' own source for the CPU (tests/emulation). grad_input is summed by atomic
additions, whose order changes from run to run, so it is compared within rounding of the sums.
"""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from ops_dcnv3 import compilation, kernels
from tests.ops_dcnv3.builders import NAMES, SAMPLES, TOLERANCE, assert_right, case, on_gpu, sample


def emulated(library):
    def run(inputs, call):
        input, offset, mask, grad = (tensor.contiguous() for tensor in inputs)
        dtype, width = input.dtype, input.shape[3] // call.groups
        sums = torch.promote_types(dtype, torch.float32)
        results = torch.full_like(grad, 7), torch.zeros_like(input, dtype=sums), torch.full_like(offset, 7)
        results = *results, torch.full_like(mask, 7)
        vectors = (16 // dtype.itemsize, 4 if dtype.itemsize == 2 else 1)
        vector = next((v for v in vectors if width % v == 0), 1)
        settings = [int(v) for v in call[:9]] + [int(call.remove_center)]
        pointers = [tensor.data_ptr() for tensor in (grad, input, offset, mask, *results)]
        code = [torch.float32, torch.float64, torch.float16, torch.bfloat16].index(dtype)
        failed = library.emulate(
            code,
            vector,
            (ctypes.c_int64 * 10)(*settings),
            ctypes.c_double(call.offset_scale),
            (ctypes.c_int64 * 4)(*input.shape),
            (ctypes.c_void_p * 8)(*pointers),
        )
        assert not failed
        return tuple(value.to(dtype) for value in results)

    return run


@pytest.fixture(
    scope="module",
    params=[pytest.param("emulated", marks=pytest.mark.slow), pytest.param("gpu", marks=pytest.mark.gpu)],
)
def kernel(request, tmp_path_factory):
    """A function from tensors and geometry to output and gradients."""
    if request.param == "gpu":
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        if "cuda" in kernels.absent:
            pytest.fail(f"no CUDA kernels: {kernels.absent['cuda']}. Run `python -m ops_dcnv3.build`.")
        return on_gpu
    nvcc = shutil.which("nvcc")
    if not nvcc:
        pytest.skip("no CUDA headers: nvcc is not installed")
    verbose = subprocess.run([nvcc, "-E", "-v", "-x", "cu", "/dev/null"], capture_output=True, text=True).stderr
    top = next(
        (Path(line.removeprefix("#$ TOP=")) for line in verbose.splitlines() if line.startswith("#$ TOP=")), None
    )
    if top is None or not (top / "include" / "cuda_fp16.h").exists():
        pytest.skip(f"no CUDA headers beside {nvcc}")
    target = tmp_path_factory.mktemp("emulation") / "emulated.so"
    subprocess.run(
        [
            *compilation.compiler(),
            "-std=c++20",
            "-O1",
            "-fPIC",
            "-shared",
            "-ffp-contract=off",
            "-isystem",
            str(top / "include"),
            f"-I{compilation.SOURCES}",
            str(Path(__file__).parent / "emulation" / "dcnv3_cuda_emulated.cpp"),
            "-o",
            str(target),
        ],
        check=True,
    )
    return emulated(ctypes.CDLL(str(target)))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", SAMPLES)
def test_every_setting(kernel, name, dtype):
    assert_right(kernel, *sample(name, (2, 13, 17), groups=3, width=16, dtype=dtype))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 6, 8, 12, 16, 17, 24, 32, 33, 40, 64, 130, 264])
def test_every_width(kernel, width, dtype):
    assert_right(kernel, *case((2, 5, 6), width=width, dtype=dtype))


@pytest.mark.parametrize("groups", [1, 5, 7, 11, 20, 32])
def test_every_number_of_groups(kernel, groups):
    assert_right(kernel, *case((1, 9, 20), groups=groups, width=8))


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 1, 9), (3, 8, 1), (1, 2, 2), (1, 40, 3)])
def test_every_image_size(kernel, size):
    assert_right(kernel, *case(size))


def test_on_a_pixel_the_derivative_is_the_one_toward_plus(kernel):
    (input, offset, mask, grad), call = case((1, 5, 5), dtype=torch.float64, spread=0.0)
    exact, moved = (kernel((input, offset + shift, mask, grad), call) for shift in (0.0, 1e-9))
    for a, b in zip(exact, moved, strict=True):
        assert_close(a, b, rtol=0, atol=1e-7)


@pytest.mark.parametrize("lost", [1e30, float("inf"), float("-inf"), float("nan")])
def test_lost_locations_sample_zeros(kernel, lost):
    (input, offset, mask, grad), call = case((1, 4, 4))
    assert not any(value.any() for value in kernel((input, torch.full_like(offset, lost), mask, grad), call))


def test_all_but_grad_input_repeats_to_the_last_bit(kernel):
    inputs, call = case((2, 13, 19), groups=4, width=16)
    first, second = (kernel(inputs, call) for _ in range(2))
    for name, a, b in zip(NAMES, first, second, strict=True):
        tolerance = 5e-6 * a.abs().max().item() if name == "grad_input" else 0
        assert_close(a, b, rtol=0, atol=tolerance, msg=lambda text, at=name: f"{at}: {text}")
