"""mmcv's compiled operators, or what takes their place where they were not built.

mmdetection's Mask2Former imports ``mmcv.ops``, which does not import without the compiled ``mmcv._ext``, although it
runs without: the one operator that it calls, multi-scale deformable attention, mmcv has in PyTorch too, and takes
that on the CPU and, whatever is compiled, in bfloat16. :mod:`lib.internimage` makes sure that something is there to
import.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import types

_EXTENSION = "mmcv._ext"


class _Missing(types.ModuleType):
    """Has every operator, each of which says how to build it."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*args, **kwargs):
            raise NotImplementedError(f"mmcv's operator {name} is not compiled; `make ops` builds mmcv's operators.")

        return refuse


def compiled() -> bool:
    """Whether mmcv's operators are compiled."""
    module = sys.modules.get(_EXTENSION)
    return not isinstance(module, _Missing) if module else importlib.util.find_spec(_EXTENSION) is not None


def stand_in() -> None:
    """Let ``mmcv.ops`` be imported where it is not compiled; compiled operators are left as they are.

    To be called before anything imports ``mmcv.ops``: mmseg and mmdetection remember that they could not.
    """
    if _EXTENSION not in sys.modules and not compiled():
        module = _Missing(_EXTENSION)
        module.__spec__ = importlib.machinery.ModuleSpec(_EXTENSION, loader=None)
        sys.modules[_EXTENSION] = module


def attend_in_pytorch() -> None:
    """Where the operators are not compiled, let multi-scale deformable attention run in PyTorch on a GPU too."""
    if not compiled():
        from mmcv.ops import multi_scale_deform_attn

        # What mmcv asks before it takes the compiled operator for a tensor on a GPU.
        multi_scale_deform_attn.IS_CUDA_AVAILABLE = False
