"""Loads the compiled kernels, if they are there, and speaks up once where the PyTorch implementation runs instead.

A library that is missing, of other sources or not loadable never makes an import fail.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ops_dcnv3 import compilation

SLOWER = {"cpu": "about six times slower on a CPU", "cuda": "slower"}
"""What the PyTorch implementation costs, forward and backward, measured on InternImage-T's first stage."""

absent: dict[str, str] = {}
"""Parts that were not loaded, and why."""

_warned = False
_wanted = True


def load() -> None:
    """Load what is built for this torch; the libraries register themselves under the operator's name."""
    for part in ("cpu", "cuda"):
        reason = _load(part)
        if reason:
            absent[part] = reason


def _load(part: str) -> str | None:
    if os.environ.get("OPS_DCNV3_REFERENCE", "0") not in ("", "0"):
        return "OPS_DCNV3_REFERENCE is set"
    if part == "cuda" and not torch.version.cuda:
        return "torch is built without CUDA"
    path = compilation.library(part)
    if not path.exists():
        others = [other.name for other in path.parent.glob(f"_{part}-*.so")]
        return f"{', '.join(others)}: built from other sources" if others else "not built"
    try:
        torch.ops.load_library(path)
    except (OSError, RuntimeError) as error:
        return f"{path.name} does not load: {error}"
    return None


def warn_of_slowness(device: str) -> None:
    """Say, the first time only, that the PyTorch implementation runs for lack of kernels."""
    global _warned
    if _warned or not _wanted or "OPS_DCNV3_REFERENCE" in absent.get(device, ""):
        return
    _warned = True
    warnings.warn(
        f"DCNv3 runs in plain PyTorch, {SLOWER.get(device, 'slower')}: no {device.upper()} kernels "
        f"({absent.get(device, 'there are none for this device')}). `python -m ops_dcnv3.build` builds them.",
        stacklevel=2,
    )


@contextmanager
def reference_only() -> Iterator[None]:
    """Within it the PyTorch implementation serves CPU and CUDA, for comparisons; in all threads of the process."""
    global _wanted
    from ops_dcnv3 import op

    _wanted, before = False, _wanted
    overriding = torch.library.Library("ops_dcnv3", "IMPL")  # noqa: TOR901
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for device in ("CPU", "CUDA"):
                overriding.impl("dcnv3", op._forward, device, allow_override=True)
                overriding.impl("dcnv3_backward", op._backward, device, allow_override=True)
        yield
    finally:
        overriding._destroy()
        _wanted = before
