"""InternImage as an mmsegmentation backbone, with its variants, checkpoints and layer-wise learning rates.

Importing it registers its classes: a config needs ``custom_imports = dict(imports=["lib.internimage"])``.
"""

from lib.internimage import mmcv_ops

mmcv_ops.install_stubs()  # before the imports below ask mmcv for its operators

from lib.internimage.backbone import InternImage  # noqa: E402
from lib.internimage.layer_decay import LayerDecayOptimWrapperConstructor  # noqa: E402

__all__ = ["InternImage", "LayerDecayOptimWrapperConstructor"]
