"""DCNv3, the deformable convolution of InternImage, as one PyTorch operator and one module.

Imports torch alone. ``op.py`` declares the operator; ``csrc`` holds its kernels, which ``build.py`` compiles and
``kernels.py`` loads; ``reference.py`` is its implementation in plain PyTorch, right on every device and in float64.
``onnx.py`` exports to ONNX; imported by itself, since it needs more packages.
"""

from ops_dcnv3.kernels import reference_only
from ops_dcnv3.module import DCNv3
from ops_dcnv3.op import dcnv3

__all__ = ["DCNv3", "dcnv3", "reference_only"]
