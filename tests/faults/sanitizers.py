"""The operator's CPU kernels under AddressSanitizer and UndefinedBehaviorSanitizer."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from ops_dcnv3 import compilation
from tests.faults.record import Record

CASES, CHUNK = 2000, 100
_FLAGS = "-fsanitize=address,undefined,float-cast-overflow -fno-omit-frame-pointer -g1"
_BUILD = "import sys, pathlib; from ops_dcnv3 import compilation as c; print(c.build('cpu', pathlib.Path(sys.argv[1])))"
REPORT = re.compile(r"runtime error: .*|ERROR: AddressSanitizer: \S+")
"""A line of a sanitizer's report."""


def environment() -> dict[str, str]:
    """Return the environment of processes that load instrumented libraries; Python itself is not instrumented."""
    command = compilation.compiler()
    questions = [[*command, f"-print-file-name={name}"] for name in ("libasan.so", "libubsan.so")]
    preload = [subprocess.run(question, capture_output=True, text=True).stdout.strip() for question in questions]
    return os.environ | {
        "CXX": f"{' '.join(command)} {_FLAGS}",
        "LD_PRELOAD": " ".join(preload),
        "ASAN_OPTIONS": "detect_leaks=0:verify_asan_link_order=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "OPS_DCNV3_REFERENCE": "1",  # the package's own library would register the same kernels
        "OMP_NUM_THREADS": "2",
    }


def build(folder: Path) -> Path:
    """Compile the instrumented library into a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    done = subprocess.run([sys.executable, "-c", _BUILD, folder], env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return Path(done.stdout.strip().splitlines()[-1])


def reports(library: Path, first: int, count: int) -> str:
    """Run random cases; return the sanitizers' reports in one line, or how else the process failed."""
    command = [sys.executable, "-m", "tests.faults.operator_runs", str(first), str(count), "--library", str(library)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    found = sorted(set(REPORT.findall(done.stderr)))
    if found or done.returncode:
        last = done.stdout.strip().splitlines()[-1:] or ["before the first case"]
        return f"{'; '.join(found) or done.stderr[-300:]} (exit code {done.returncode}, last: {last[0]})"
    return ""


def run(record: Record, folder: Path) -> None:
    """Run 2,000 random cases in processes of a hundred."""
    names = [f"seeds {first}-{first + CHUNK - 1}" for first in range(0, CASES, CHUNK)]
    todo = list(record.todo(names))
    if todo:
        library = build(folder)
        for name in record.todo(names):
            first = int(name.split()[1].partition("-")[0])
            record.add(name, reports(library, first, CHUNK), CHUNK)
    record.finish(names)
