"""InternImage as an mmsegmentation backbone, with its variants, its checkpoints and its layer-wise learning rates.

Importing this package registers ``InternImage`` and ``LayerDecayOptimWrapperConstructor``, so a config needs
only ``custom_imports = dict(imports=["lib.internimage"])``.
"""

from lib.internimage import mmcv_ops

mmcv_ops.stand_in()  # before anything below asks mmcv for its operators

from lib.internimage.backbone import InternImage
from lib.internimage.layer_decay import LayerDecayOptimWrapperConstructor

__all__ = ["InternImage", "LayerDecayOptimWrapperConstructor"]
