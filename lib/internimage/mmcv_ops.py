"""Stubs for mmcv's compiled operators where they are not built.

mmdetection's Mask2Former imports ``mmcv.ops``, which fails without the compiled ``mmcv._ext``. It calls one operator,
multi-scale deformable attention, which mmcv has in PyTorch too.
"""

import importlib.util
import sys
import types
from importlib.machinery import ModuleSpec

_EXTENSION = "mmcv._ext"


class _Stub(types.ModuleType):
    """Module that has every operator; calling one says how to build it."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*args, **kwargs):
            raise NotImplementedError(f"mmcv's operator {name} is not compiled; `make ops` builds mmcv's operators.")

        return refuse


def compiled() -> bool:
    """Return whether mmcv's operators are compiled."""
    module = sys.modules.get(_EXTENSION)
    return not isinstance(module, _Stub) if module else importlib.util.find_spec(_EXTENSION) is not None


def install_stubs() -> None:
    """Make ``mmcv.ops`` importable where it is not compiled, before mmseg and mmdetection remember a failed import."""
    if not compiled():
        sys.modules[_EXTENSION] = _Stub(_EXTENSION)
        sys.modules[_EXTENSION].__spec__ = ModuleSpec(_EXTENSION, loader=None)


def use_pytorch_attention() -> None:
    """Run multi-scale deformable attention in PyTorch on a GPU too, where the operators are not compiled."""
    if not compiled():
        from mmcv.ops import multi_scale_deform_attn

        # mmcv reads this flag before it calls the compiled operator for a tensor on a GPU.
        multi_scale_deform_attn.IS_CUDA_AVAILABLE = False
