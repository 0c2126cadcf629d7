"""Choice of the implementation: compiled kernels where they load, plain PyTorch elsewhere, with one warning.

A library that is missing, stale or not loadable never makes an import fail.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ops_dcnv3 import compilation, reference
from ops_dcnv3.reference import Geometry

SLOWER = {"cpu": "about six times slower on a CPU", "cuda": "slower"}
"""Cost of the PyTorch implementation, forward and backward, measured on InternImage-T's first stage."""

absent: dict[str, str] = {}
"""Parts (``"cpu"``, ``"cuda"``) without loaded kernels, with the reason."""

WARNED = "OPS_DCNV3_WARNED"
"""Environment variable: not empty where the caller has said :func:`shortcoming` already."""

_warned = False
_warn = True


def load() -> None:
    """Load the libraries that fit this torch; each registers its kernels under the operator's name."""
    for part in ("cpu", "cuda"):
        reason = _load(part)
        if reason:
            absent[part] = reason


def _load(part: str) -> str:
    """Return why the library was not loaded; empty: it was."""
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
    return ""


def reference_forward(input: Tensor, offset: Tensor, mask: Tensor, *settings) -> Tensor:
    """Run the operator in plain PyTorch; ``settings`` are the fields of :class:`ops_dcnv3.reference.Geometry`."""
    _warn_once(input.device.type)
    return reference.forward(input, offset, mask, Geometry(*settings))


def reference_backward(
    grad: Tensor, input: Tensor, offset: Tensor, mask: Tensor, *settings
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the operator's gradient in plain PyTorch; arguments as in :func:`reference_forward`."""
    _warn_once(input.device.type)
    return reference.backward(grad, input, offset, mask, Geometry(*settings))


def _warn_once(device: str) -> None:
    """Warn the first time that PyTorch runs for lack of kernels."""
    global _warned
    if _warned or not _warn or os.environ.get(WARNED) or "OPS_DCNV3_REFERENCE" in absent.get(device, ""):
        return
    _warned = True
    warnings.warn(_sentence(device), stacklevel=2)


def shortcoming(device: str) -> str:
    """Return the sentence of the warning for a kind of device, such as ``cpu``; empty where kernels are loaded."""
    missing = absent.get(device, "")
    return _sentence(device) if missing and "OPS_DCNV3_REFERENCE" not in missing else ""


def _sentence(device: str) -> str:
    return (
        f"DCNv3 runs in plain PyTorch, {SLOWER.get(device, 'slower')}: no {device.upper()} kernels "
        f"({absent.get(device, 'there are none for this device')}). `python -m ops_dcnv3.build` builds them."
    )


@contextmanager
def reference_only() -> Iterator[None]:
    """Run the PyTorch implementation on CPU and CUDA, in all threads of the process; for comparisons."""
    global _warn
    _warn, before = False, _warn
    overriding = torch.library.Library("ops_dcnv3", "IMPL")  # noqa: TOR901
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for device in ("CPU", "CUDA"):
                overriding.impl("dcnv3", reference_forward, device, allow_override=True)
                overriding.impl("dcnv3_backward", reference_backward, device, allow_override=True)
        yield
    finally:
        overriding._destroy()
        _warn = before
