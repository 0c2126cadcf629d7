"""Pseudo-labels: the teacher's classes of target pixels, their confidence, and class shares that match the source's."""

import math

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from torch import Tensor, nn

from lib.dataset.classes import BACKGROUND, CLASSES, IGNORE

_DECAY = 0.9  # of former counts, per iteration
_STEPS, _STEP = 3, 0.1  # per iteration, in the logarithm of a factor
_MIN_SHARE = 1e-3  # below this, differences between shares do not count
_MAX_LOG_FACTOR = math.log(10)


def label(probabilities: Tensor, known: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Label target pixels with the most probable class but Background, where the label is open.

    Args:
        probabilities: ``float (N, 13, H, W)``.
        known: ``int64 (N, H, W)``: Background in the overlay, IGNORE beyond the image, another value where the label
            is open.
        threshold: probability (0-1) above which a label counts as confident.

    Returns:
        ``int64 (N, H, W)`` labels, and ``float (N,)``, the share of confident ones among the open pixels of each image
        (Tranheden et al., "DACS", WACV 2021, 3.2).
    """
    probability, best = probabilities[:, :BACKGROUND].max(1)
    is_open = open_pixels(known)
    confident = (probability > threshold) & is_open
    share = confident.sum((1, 2)) / is_open.sum((1, 2)).clamp(min=1)
    return torch.where(is_open, best, known), share.to(probabilities.dtype)


def open_pixels(known: Tensor) -> Tensor:
    """Return ``bool (N, H, W)``: pixels whose label is neither Background nor IGNORE."""
    return (known != BACKGROUND) & (known != IGNORE)


class ClassShares(nn.Module):
    """Class shares of labels and pseudo-labels, and factors on the probabilities that align them.

    A young network predicts frequent classes too often, and learning from its own labels makes that worse. Berthelot et
    al., "ReMixMatch", ICLR 2020, 3.1, align mean probabilities instead; those of a rare class may agree while no pixel
    is labelled with it.
    """

    def __init__(self):
        super().__init__()
        self.source = nn.Buffer(torch.zeros(len(CLASSES)))
        self.named = nn.Buffer(torch.zeros(len(CLASSES)))
        self.log_factor = nn.Buffer(torch.zeros(len(CLASSES)))

    def forward(self, probabilities: Tensor, is_open: Tensor, truth: Tensor) -> Tensor:
        """Count one more batch, on all processes, and weight the classes of ``float (N, 13, H, W)`` probabilities.

        ``is_open``, ``bool (N, H, W)``, are the pixels to count; ``truth`` are ``int64`` labels of source crops.
        """
        pixels = probabilities[:, :BACKGROUND].permute(0, 2, 3, 1)[is_open]
        decay = _DECAY if self.source.any() else 0.0
        self._count(self.source, truth[truth < len(CLASSES)], decay)
        for step in range(_STEPS):
            classes = (pixels * self.log_factor.exp()).argmax(1)
            self._count(self.named, classes, decay if step == 0 else _DECAY)
            self.log_factor.add_(_STEP * torch.log((self.source + _MIN_SHARE) / (self.named + _MIN_SHARE)))
        self.log_factor.clamp_(-_MAX_LOG_FACTOR, _MAX_LOG_FACTOR)
        weighted = probabilities * F.pad(self.log_factor, (0, 1)).exp()[:, None, None]
        return weighted / weighted.sum(1, keepdim=True)

    @staticmethod
    def _count(shares: Tensor, labels: Tensor, decay: float) -> None:
        counts = torch.bincount(labels, minlength=len(CLASSES)).to(shares)
        all_reduce(counts)
        if counts.any():
            shares.lerp_(counts / counts.sum(), 1 - decay)
