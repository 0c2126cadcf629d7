"""Export to ONNX: a module with DCNv3 becomes one file of standard operators, for any ONNX runtime.

Only this module needs the packages onnx and onnxscript. ``onnx_graph.py`` holds the translation of DCNv3.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

OPSET = 20
LARGEST = 2**31 - 2**20
"""Bytes of weights that fit into one ONNX file beside the graph."""


def export(
    module: nn.Module,
    example: Tensor | tuple[Tensor, ...],
    path: str | os.PathLike,
    *,
    dynamic: tuple[int, ...] = (0, 2, 3),
    opset: int = OPSET,
) -> Path:
    """Write ``module`` as one ONNX file, weights included; a failed export leaves nothing behind.

    Args:
        module: in evaluation mode; a DCNv3, a backbone or a whole network.
        example: its positional arguments, with the dtypes of the file's inputs.
        path: file to write; an existing one is replaced.
        dynamic: axes of every argument with a variable size; the default is batch, height and width of ``(N, C, H, W)``
            images. Channels-last maps need ``(0, 1, 2)``; ``()`` fixes all sizes to the example's.
        opset: version of ONNX's operators, 20 or later.

    Returns:
        ``path``.

    Raises:
        ImportError: onnx or onnxscript is not installed.
        ValueError: ``opset`` is too old, or ``module`` is in training mode or too large for one file.
    """
    for package in ("onnx", "onnxscript"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ImportError(f"{package} is not installed; the export needs: pip install onnx onnxscript") from error
    if opset < OPSET:
        raise ValueError(f"opset: {opset} (expected at least {OPSET})")
    if module.training:
        raise ValueError("module: in training mode (expected evaluation mode, after module.eval())")
    weights = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    if weights > LARGEST:
        raise ValueError(f"module: {weights} bytes of weights (expected at most {LARGEST}, one ONNX file's limit)")
    example, path = (example,) if isinstance(example, Tensor) else tuple(example), Path(path)
    with tempfile.TemporaryDirectory(prefix=".onnx-", dir=path.parent) as scratch:
        torch.onnx.export(
            module,
            example,
            Path(scratch) / path.name,
            dynamo=True,
            verbose=False,
            external_data=False,
            opset_version=opset,
            dynamic_shapes=tuple(dict.fromkeys(dynamic, torch.export.Dim.DYNAMIC) for _ in example),
            custom_translation_table=translations(),
        )
        os.replace(Path(scratch) / path.name, path)
    return path


def translations() -> dict:
    """Return the table with DCNv3 for ``torch.onnx.export(..., dynamo=True, custom_translation_table=...)``."""
    from ops_dcnv3 import onnx_graph

    return {torch.ops.ops_dcnv3.dcnv3.default: onnx_graph.dcnv3}
