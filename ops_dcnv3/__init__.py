"""DCNv3, the deformable convolution of InternImage, as one PyTorch operator and one module.

The package imports torch alone. ``op.py`` declares the operator, ``kernels.py`` chooses its implementation: the kernels
in ``csrc``, which ``build.py`` compiles, or ``reference.py`` in plain PyTorch, right on every device and in float64.
``onnx.py`` exports to ONNX and is imported by itself, since it needs more packages.
"""

from ops_dcnv3.kernels import reference_only
from ops_dcnv3.module import DCNv3
from ops_dcnv3.op import dcnv3

__all__ = ["DCNv3", "dcnv3", "reference_only"]
