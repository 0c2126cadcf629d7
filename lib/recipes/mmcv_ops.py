"""mmcv's compiled operators, or what takes their place where they were not built.

The Mask2Former head imports ``mmcv.ops``, which does not import without the compiled ``mmcv._ext``. One of its
operators is used, multi-scale deformable attention, and mmcv has that in PyTorch too: the compiled one is taken on
a GPU in float32 and float16, the PyTorch one on the CPU and in bfloat16 everywhere.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import types

_EXTENSION = "mmcv._ext"


def built() -> bool:
    """Whether mmcv's operators are compiled."""
    module = sys.modules.get(_EXTENSION)
    if module is not None:
        return not isinstance(module, _Missing)
    return importlib.util.find_spec(_EXTENSION) is not None


class _Missing(types.ModuleType):
    """Has every operator, each of which says how to build it."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*args, **kwargs):
            raise NotImplementedError(f"mmcv's operator {name} is not compiled; build mmcv's operators with `make ops`.")

        return refuse


def stand_in() -> None:
    """Let ``mmcv.ops`` be imported where it is not compiled; multi-scale deformable attention then runs in PyTorch.

    Compiled operators are left as they are.
    """
    if built() or _EXTENSION in sys.modules:
        return
    module = _Missing(_EXTENSION)
    module.__spec__ = importlib.machinery.ModuleSpec(_EXTENSION, loader=None)
    sys.modules[_EXTENSION] = module
    from mmcv.ops import multi_scale_deform_attn

    # What mmcv asks before it takes the compiled operator for a tensor on a GPU.
    multi_scale_deform_attn.IS_CUDA_AVAILABLE = False
