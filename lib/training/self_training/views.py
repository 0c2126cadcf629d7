"""What the student is shown of a target crop, and what it is told about it: plain functions of tensors.

Images are ``float (N, 3, H, W)``, labels ``int64 (N, H, W)`` of class ids; every random choice is drawn from a
generator on the CPU, so that it is the same on every device.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from lib.dataset.classes import BACKGROUND, IGNORE


def pseudo_label(probabilities: Tensor, known: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """The teacher's labels, and how far to trust them.

    Background is never guessed: it is where ``known`` says so, and nowhere else.

    Args:
        probabilities: ``float (N, 13, H, W)``.
        known: ``int64 (N, H, W)``: Background in the camera's static surroundings, IGNORE beyond the image, and any
            other value where the label is open.
        threshold: probability (0-1) from which a label counts as sure.

    Returns:
        ``int64 (N, H, W)`` labels, and ``float (N,)``, the share of sure ones among the open pixels of each image
        (Tranheden et al., "DACS", WACV 2021, 3.2).
    """
    probability, label = probabilities[:, :BACKGROUND].max(1)
    open_ = is_open(known)
    sure = (probability > threshold) & open_
    share = sure.sum((1, 2)) / open_.sum((1, 2)).clamp(min=1)
    return torch.where(open_, label, known), share.to(probabilities.dtype)


def is_open(known: Tensor) -> Tensor:
    """``bool (N, H, W)``: where the label is neither Background nor beyond the image; ``known`` as above."""
    return (known != BACKGROUND) & (known != IGNORE)


def mix(
    source: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor], known: Tensor, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Half of the classes of each source crop pasted on a target crop, image and label alike.

    The camera's surroundings are in front of all it sees, so nothing is pasted on them, nor are they pasted
    (Olsson et al., "ClassMix", WACV 2021).

    Args:
        source, target: images and their labels; the target's as from :func:`pseudo_label`.
        known: of the target, see :func:`pseudo_label`.

    Returns:
        Images and labels.
    """
    (image, label), (under, guessed) = source, target
    chosen = torch.zeros(len(label), IGNORE + 1, dtype=torch.bool)
    for row, one in zip(chosen, label, strict=True):
        classes = torch.unique(one).cpu()
        classes = classes[(classes != IGNORE) & (classes != BACKGROUND)]
        order = torch.randperm(len(classes), generator=generator)
        row[classes[order[: math.ceil(len(classes) / 2)]]] = True
    each = torch.arange(len(label), device=label.device)[:, None, None]
    paste = chosen.to(label.device)[each, label] & (known != BACKGROUND)
    return torch.where(paste[:, None], image, under), torch.where(paste, label, guessed)


def jitter(images: Tensor, mean: Tensor, std: Tensor, generator: Generator, strength: float) -> Tensor:
    """Copies in other colours, half of them blurred.

    Args:
        images: normalised RGB.
        mean, std: ``(3, 1, 1)`` of the normalisation.
        strength: largest relative change of brightness, contrast, saturation and, in turns of the colour wheel, half
            of it of the hue.
    """
    count, device = len(images), images.device
    light, contrast, saturation, hue = ((torch.rand(4, count, generator=generator) * 2 - 1) * strength).to(device)[
        ..., None, None
    ]
    turn = hue / 2 * math.pi
    # Luminance and two chromas (ITU-R BT.601's YIQ): saturation scales the chromas, hue turns them.
    to = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], device=device)
    middle = torch.zeros(count, 3, 3, device=device)
    middle[:, 0, 0] = 1
    rotation = torch.cat([torch.cat([turn.cos(), -turn.sin()], 2), torch.cat([turn.sin(), turn.cos()], 2)], 1)
    middle[:, 1:, 1:] = rotation * (1 + saturation)
    matrix = torch.linalg.inv(to) @ middle @ to
    colours = images.float() * std + mean
    colours = torch.einsum("nij,njhw->nihw", matrix, colours)
    grey = colours.mean((1, 2, 3), keepdim=True)
    colours = (colours - grey) * (1 + contrast[..., None]) + grey * (1 + light[..., None])
    changed = ((colours.clamp(0, 255) - mean) / std).to(images.dtype)
    for image in changed:
        if torch.rand((), generator=generator) < 0.5:
            image.copy_(blur(image, 0.15 + float(torch.rand((), generator=generator))))
    return changed


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of ``(3, H, W)`` by ``sigma`` pixels."""
    radius = max(1, math.ceil(3 * sigma))
    x = torch.arange(-radius, radius + 1, device=image.device, dtype=torch.float32)
    weights = torch.softmax(-(x**2) / (2 * sigma**2), 0).to(image.dtype)
    padded = F.pad(image[None], (radius,) * 4, mode="replicate")[0][:, None]
    return F.conv2d(F.conv2d(padded, weights[None, None, None]), weights[None, None, :, None])[:, 0]


def hidden(shape: tuple[int, int, int], ratio: float, block: int, generator: Generator) -> Tensor:
    """``bool (N, H, W)``: square patches of side ``block`` that cover about ``ratio`` of each image
    (Hoyer et al., "MIC", CVPR 2023, equation 5)."""
    count, height, width = shape
    patches = torch.rand(count, math.ceil(height / block), math.ceil(width / block), generator=generator) < ratio
    return patches.repeat_interleave(block, 1).repeat_interleave(block, 2)[:, :height, :width]
