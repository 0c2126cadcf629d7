"""The CUDA kernels compile for sm_86 and sm_90 and keep everything in registers; no GPU is needed for that."""

import re
import shutil
import subprocess

import pytest
import torch

from ops_dcnv3 import compilation

NVCC = shutil.which("nvcc")
ARCHITECTURES = ("sm_86", "sm_90")
INCLUDE = compilation.Path(torch.__file__).parent / "include"
REPORT = re.compile(
    r"Compiling entry function '(?P<kernel>\S+)' for '(?P<architecture>sm_\d+)'"
    r".*?(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads"
    r".*?Used (?P<registers>\d+) registers",
    re.DOTALL,
)
NAME = re.compile(r"(forward|backward_samples|backward_input)I(f|d|6__half|13__nv_bfloat16)(?:Li(\d+))?E")
TYPES = {"f": "float32", "d": "float64", "6__half": "float16", "13__nv_bfloat16": "bfloat16"}
WIDTHS = {"float32": (4, 1), "float64": (2, 1), "float16": (8, 4, 1), "bfloat16": (8, 4, 1)}

pytestmark = [pytest.mark.slow, pytest.mark.skipif(NVCC is None, reason="nvcc is not installed")]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """What ptxas says of each kernel: {(architecture, kernel, dtype, channels per thread): its report}."""
    done = subprocess.run(
        [
            NVCC,
            "-c",
            str(compilation.SOURCES / "dcnv3_cuda.cu"),
            "-std=c++20",
            "-O3",
            "--expt-relaxed-constexpr",
            "--threads",
            "2",
            "-Xptxas",
            "-v",
            "-Xcompiler",
            "-fPIC,-fvisibility=hidden",
            "-DUSE_CUDA",
            f"-DTORCH_TARGET_VERSION={compilation.TARGET_VERSION}",
            "-isystem",
            str(INCLUDE),
            *(f"-gencode=arch={name.replace('sm', 'compute')},code={name}" for name in ARCHITECTURES),
            "-o",
            str(tmp_path_factory.mktemp("cuda") / "dcnv3_cuda.o"),
        ],
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "warning" not in said, said
    found = {}
    for report in REPORT.finditer(said):
        kernel, dtype, width = NAME.search(report["kernel"]).groups()
        key = report["architecture"], kernel, TYPES[dtype], int(width or 1)
        found[key] = {name: int(report[name]) for name in ("stack", "stores", "loads", "registers")}
    return found


def test_every_kernel_is_there(kernels):
    expected = {
        (architecture, kernel, dtype, width)
        for architecture in ARCHITECTURES
        for dtype, widths in WIDTHS.items()
        for kernel, each in (("forward", widths), ("backward_samples", widths), ("backward_input", (1,)))
        for width in each
    }
    assert set(kernels) == expected


def test_nothing_spills(kernels):
    spilling = {
        key: report for key, report in kernels.items() if report["stack"] or report["stores"] or report["loads"]
    }
    assert not spilling


def test_registers_leave_room_for_many_threads(kernels):
    """A multiprocessor has 65536 registers: with 80 each, three blocks of 256 threads run at once."""
    assert not {key: report["registers"] for key, report in kernels.items() if report["registers"] > 80}
