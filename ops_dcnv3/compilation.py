"""Compiles the kernels beside this file; ``python -m ops_dcnv3.build`` calls it.

Needs torch and a C++20 compiler (GCC 10, Clang 10 or later; ``CXX`` chooses one), and nvcc besides for the CUDA
part. Each part becomes a library of its own, so a failure of one leaves the other alone. A library's name holds a
digest of its sources, which is how a library of other sources is told from the right one.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
SOURCES = PACKAGE / "csrc"
SHARED = ("dcnv3_arguments.h", "dcnv3_settings.h")
TARGET_VERSION = "0x020a000000000000"
"""The stable ABI of torch 2.10, and so of all later versions."""

X86_LOOPS = {"avx2": ["-mavx2", "-mfma"], "avx512": ["-mavx2", "-mfma", "-mavx512f"]}
ARCHITECTURES = "8.6;9.0+PTX"
"""Compiled for where there is neither ``TORCH_CUDA_ARCH_LIST`` nor a GPU."""


class BuildError(Exception):
    """A part cannot be built; the message says what is missing, or is the compiler's."""


def sources(part: str) -> list[Path]:
    """The files that ``part`` (``"cpu"`` or ``"cuda"``) is made of."""
    return sorted([*(SOURCES / name for name in SHARED), *SOURCES.glob(f"dcnv3_{part}*")])


def library(part: str, folder: Path = PACKAGE) -> Path:
    """Where the library of the present sources of ``part`` is, once built."""
    digest = hashlib.sha256()
    for path in sources(part):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return folder / f"_{part}-{digest.hexdigest()[:12]}.so"


def build(part: str, folder: Path = PACKAGE, force: bool = False) -> Path:
    """Compile one part into ``folder``, unless it is there, and put it in place of older ones.

    Raises:
        BuildError: something is missing, or the compiler or the loader complained.
    """
    target = library(part, folder)
    if target.exists() and not force:
        return target
    compile_part = {"cpu": _compile_cpu, "cuda": _compile_cuda}[part]
    try:
        # In the same folder, so that the last step is a rename: nobody ever sees half a library.
        scratch = tempfile.TemporaryDirectory(prefix=f".{part}-", dir=folder)
    except OSError as error:
        raise BuildError(f"{folder}: cannot write there ({error.strerror})") from error
    with scratch:
        made = Path(scratch.name) / target.name
        compile_part(made)
        _check_that_it_loads(made)
        os.replace(made, target)
    for old in folder.glob(f"_{part}-*.so"):
        if old != target:
            old.unlink(missing_ok=True)
    return target


def _compile_cpu(target: Path) -> None:
    command = compiler()
    include, lib = _torch_folders()
    flags = [
        "-std=c++20",
        "-O3",
        "-fPIC",
        "-fvisibility=hidden",
        "-ffp-contract=off",
        "-fno-math-errno",
        "-fno-trapping-math",
        f"-DTORCH_TARGET_VERSION={TARGET_VERSION}",
        f"-I{include}",
        f"-I{include / 'torch' / 'csrc' / 'api' / 'include'}",
        *shlex.split(os.environ.get("CXXFLAGS", "")),
    ]
    loops: dict[str, list[str]] = {"portable": []} | (X86_LOOPS if platform.machine() in ("x86_64", "AMD64") else {})
    units: list[tuple[str, Path, list[str]]] = [("dcnv3_cpu.cpp", target.parent / "dcnv3_cpu.o", [])] + [
        ("dcnv3_cpu_loops.cpp", target.parent / f"{name}.o", [f"-DDCNV3_LOOPS=loops_{name}", *more])
        for name, more in loops.items()
    ]
    jobs = int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        # As a list, so that an error is raised here.
        list(
            pool.map(
                lambda unit: _run([*command, *flags, *unit[2], "-c", str(SOURCES / unit[0]), "-o", str(unit[1])]),
                units,
            )
        )
    objects = [str(path) for _, path, _ in units]
    # Bound when loaded: with a torch that lacks a function, loading fails instead of the first call.
    linking = ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-Wl,-z,now"]
    _run([*command, "-shared", *objects, f"-L{lib}", "-ltorch_cpu", *linking, "-o", str(target)])


def _compile_cuda(target: Path) -> None:
    import torch

    units = [path for path in sources("cuda") if path.suffix == ".cu"]
    if not units:
        raise BuildError("this copy has no CUDA source")
    if torch.version.cuda is None:
        raise BuildError(f"torch {torch.__version__} is built without CUDA")
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    nvcc = str(Path(home) / "bin" / "nvcc") if home else shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    if not Path(nvcc).exists():
        raise BuildError("nvcc is not installed (looked in CUDA_HOME, PATH and /usr/local/cuda)")
    found = re.search(r"release (\d+)\.", _run([nvcc, "--version"]))
    if found and found[1] != torch.version.cuda.split(".")[0]:
        raise BuildError(f"nvcc is of CUDA {found[1]} (expected torch's: {torch.version.cuda})")
    include, lib = _torch_folders()
    _run(
        [
            nvcc,
            "-std=c++20",
            "-O3",
            "--expt-relaxed-constexpr",
            "-shared",
            "-Xcompiler",
            "-fPIC,-fvisibility=hidden",
            "-ccbin",
            compiler()[-1],
            *_gencode(_architectures(torch)),
            "-DUSE_CUDA",
            f"-DTORCH_TARGET_VERSION={TARGET_VERSION}",
            f"-I{include}",
            f"-I{include / 'torch' / 'csrc' / 'api' / 'include'}",
            *map(str, units),
            f"-L{lib}",
            "-ltorch_cuda",
            "-ltorch_cpu",
            "-Xlinker",
            "-z,now",
            "-o",
            str(target),
        ]
    )


def _architectures(torch) -> str:
    chosen = os.environ.get("TORCH_CUDA_ARCH_LIST")
    if chosen:
        return chosen
    present = {torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())}
    return ";".join(f"{major}.{minor}" for major, minor in sorted(present)) or ARCHITECTURES


def _gencode(architectures: str) -> list[str]:
    """nvcc's options for a list like ``8.6;9.0+PTX``."""
    options = []
    for entry in re.split(r"[;,\s]+", architectures.strip()):
        name, _, ptx = entry.partition("+")
        if not re.fullmatch(r"\d+\.\d[af]?", name) or ptx not in ("", "PTX"):
            raise BuildError(f"TORCH_CUDA_ARCH_LIST: {entry!r} (expected a list like {ARCHITECTURES})")
        number = name.replace(".", "")
        options.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if ptx:
            options.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return options


def compiler() -> list[str]:
    """The C++ compiler as the start of a command line; raises :class:`BuildError` where there is none."""
    chosen = os.environ.get("CXX")
    for candidate in [chosen] if chosen else ["c++", "g++", "clang++"]:
        command = shlex.split(candidate)
        if command and shutil.which(command[0]):
            return command
    raise BuildError(f"no C++ compiler ({chosen or 'c++, g++ or clang++'}) is installed")


def _torch_folders() -> tuple[Path, Path]:
    try:
        import torch
    except ImportError as error:
        raise BuildError("torch cannot be imported where the kernels are built") from error
    version = tuple(int(number) for number in re.findall(r"\d+", torch.__version__)[:2])
    if version < (2, 10):
        raise BuildError(f"torch is {torch.__version__} (expected 2.10 or later)")
    home = Path(torch.__file__).resolve().parent
    return home / "include", home / "lib"


def _check_that_it_loads(path: Path) -> None:
    _run([sys.executable, "-c", "import sys, torch; torch.ops.load_library(sys.argv[1])", str(path)])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        end = "\n".join((done.stdout + done.stderr).strip().splitlines()[-40:])
        raise BuildError(f"{shlex.join(command)}\n{end}")
    return done.stdout
