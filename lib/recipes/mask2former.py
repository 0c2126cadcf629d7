"""The Mask2Former head: mmseg's, over mmdetection's, made to answer with logits as the other heads do.

A resolved recipe with this head imports the module through ``custom_imports``; importing it registers the head.
"""

from __future__ import annotations

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
mmcv_ops.attend_in_pytorch()

_LEAST = 1e-6
"""Scores below this count as this, so that their logarithm is finite."""


@MODELS.register_module()
class Mask2FormerLogitsHead(mask2former_head.Mask2FormerHead):
    """Mask2Former for semantic segmentation (Cheng et al., CVPR 2022), with mmseg's arguments.

    A class's score at a pixel is the sum over the queries of the class's probability times the mask's. Scores
    divided by their sum over the classes are probabilities; this head answers with the scores' logarithm, so that
    a softmax gives just those and whatever averages or blends logits or probabilities treats it like any other.
    """

    def predict(self, x: tuple[Tensor, ...], batch_img_metas: list[dict], test_cfg) -> Tensor:
        """Feature maps ``(N, C, h, w)`` to ``float32 (N, classes, H, W)``, the logarithm of the scores."""
        shape = batch_img_metas[0]["img_shape"]
        if isinstance(shape, torch.Size):  # mmseg's mark of a window, which is smaller than the padded image
            batch_img_metas = [dict(img_shape=shape) for _ in batch_img_metas]
        return super().predict(x, batch_img_metas, test_cfg).float().clamp_min(_LEAST).log()
