"""InternImage as an mmsegmentation backbone, with its variants, checkpoints and layer-wise learning rates.

Importing this package registers ``InternImage`` and ``LayerDecayOptimWrapperConstructor``, so a config needs only
``custom_imports = dict(imports=["lib.internimage"])``. In Python::

    from lib.internimage import InternImage
    from lib.internimage.checkpoints.loading import load_weights
    from lib.internimage.variants import VARIANTS

    backbone = InternImage(**VARIANTS["t"])
    print(load_weights(backbone, "internimage_t_1k_224"))
    maps = backbone(torch.zeros(1, 3, 224, 224))  # (1, 64, 56, 56), (1, 128, 28, 28), (1, 256, 14, 14), (1, 512, 7, 7)
"""

from lib.internimage import mmcv_ops

mmcv_ops.install_stubs()  # before the imports below ask mmcv for its operators

from lib.internimage.backbone import InternImage  # noqa: E402
from lib.internimage.layer_decay import LayerDecayOptimWrapperConstructor  # noqa: E402

__all__ = ["InternImage", "LayerDecayOptimWrapperConstructor"]
