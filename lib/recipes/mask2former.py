"""mmseg's Mask2Former head, answering with logits as the other heads do; importing this module registers it."""

import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor

import lib.internimage  # noqa: F401  before mmseg, which would miss mmdetection
from lib.internimage import mmcv_ops
from lib.recipes.heads import require_mask2former

require_mask2former()
from mmseg.models.decode_heads import mask2former_head  # noqa: E402

if mask2former_head.MMDET_Mask2FormerHead is BaseModule:
    raise RuntimeError("mmseg's models were imported before lib.internimage, so without mmdetection; change the order.")
mmcv_ops.use_pytorch_attention()

_LEAST = 1e-6  # score, so that its logarithm is finite


@MODELS.register_module()
class Mask2FormerLogitsHead(mask2former_head.Mask2FormerHead):
    """Mask2Former for semantic segmentation (Cheng et al., CVPR 2022).

    The score of a class at a pixel is the sum over the queries of its probability times the mask's. The answer is the
    logarithm of the scores: its softmax are the scores divided by their sum, so logits and probabilities of this head
    can be averaged and blended like any other's.
    """

    def predict(self, x: tuple[Tensor, ...], batch_img_metas: list[dict], test_cfg) -> Tensor:
        """Return the logarithm of the scores, ``float32 (N, classes, H, W)``, from feature maps ``(N, C, h, w)``."""
        shape = batch_img_metas[0]["img_shape"]
        if isinstance(shape, torch.Size):  # so mmseg marks a window, which is smaller than the padded image
            batch_img_metas = [dict(img_shape=shape) for _ in batch_img_metas]
        return super().predict(x, batch_img_metas, test_cfg).float().clamp_min(_LEAST).log()
