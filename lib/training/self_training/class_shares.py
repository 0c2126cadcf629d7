"""Keeps the teacher from forgetting the rare classes: it is to name each as often as the source's labels do.

A young network names the frequent classes too often, and learning from its own labels makes that worse. The bent
source shows about what the target sees, so its class shares are what to expect there. Every class gets a factor on
its probability, moved until the labels' shares agree (Berthelot et al., "ReMixMatch", ICLR 2020, 3.1, aligns mean
probabilities; but those of a rare class may be right while no pixel is ever named so).
"""

from __future__ import annotations

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from lib.dataset.classes import BACKGROUND, CLASSES

_KEPT = 0.9  # of what was counted before, per iteration
_STEPS, _STEP = 3, 0.1  # per iteration, in the logarithm of a factor
_RARE = 1e-3  # a share below which differences do not count
_MOST = 10.0  # the largest factor, and one over the smallest


class ClassShares(nn.Module):
    """The shares of classes seen so far, and the factors that follow from them; both are kept in checkpoints."""

    def __init__(self):
        super().__init__()
        for name in ("source", "named", "log_factor"):
            self.register_buffer(name, torch.zeros(len(CLASSES)))

    def forward(self, probabilities: Tensor, open_: Tensor, truth: Tensor) -> Tensor:
        """Count one more batch, on all GPUs, and weigh the classes.

        Args:
            probabilities: ``float (N, 13, H, W)`` of target crops.
            open_: ``bool (N, H, W)``, where their label is open.
            truth: ``int64``, labels of source crops.

        Returns:
            ``float (N, 13, H, W)`` that add up to 1; Background keeps its share of the two.
        """
        classes = len(CLASSES)
        pixels = probabilities[:, :BACKGROUND].permute(0, 2, 3, 1)[open_]
        kept = _KEPT if self.source.any() else 0.0
        self._count(self.source, truth[truth < classes], kept)
        for step in range(_STEPS):
            self._count(self.named, (pixels * self.log_factor.exp()).argmax(1), kept if step == 0 else _KEPT)
            self.log_factor += _STEP * ((self.source + _RARE) / (self.named + _RARE)).log()
        limit = torch.tensor(_MOST).log().item()
        self.log_factor.clamp_(-limit, limit)
        weighed = probabilities.clone()
        weighed[:, :BACKGROUND] *= self.log_factor.exp()[:, None, None]
        return weighed / weighed.sum(1, keepdim=True)

    @staticmethod
    def _count(shares: Tensor, labels: Tensor, kept: float) -> None:
        counts = torch.bincount(labels, minlength=len(CLASSES)).to(shares)
        all_reduce(counts)
        if counts.any():
            shares.lerp_(counts / counts.sum(), 1 - kept)
