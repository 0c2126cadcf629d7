"""Augmentations of the student's crops: class mixing, colour jitter, masked patches.

Images are ``float (N, 3, H, W)``, labels ``int64 (N, H, W)``. Generators are on the CPU: equal choices on every device.
"""

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from lib.dataset.classes import BACKGROUND, IGNORE

_YIQ = [[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]]
"""RGB to luminance and two chromas (ITU-R BT.601)."""


def mix_classes(
    source: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor], known: Tensor, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Paste half of the classes of each source crop onto a target crop, image and label alike.

    The overlay is in front: it is not pasted, nor pasted onto. ``known`` is as in
    :func:`lib.training.self_training.pseudo_labels.label`. Source: Olsson et al., "ClassMix", WACV 2021.
    """
    (image, label), (target_image, target_label) = source, target
    chosen = torch.zeros(len(label), IGNORE + 1, dtype=torch.bool)
    for row, classes in zip(chosen, map(torch.unique, label), strict=True):
        classes = classes.cpu()
        classes = classes[(classes != IGNORE) & (classes != BACKGROUND)]
        order = torch.randperm(len(classes), generator=generator)
        row[classes[order[: math.ceil(len(classes) / 2)]]] = True
    crop = torch.arange(len(label), device=label.device)[:, None, None]
    paste = chosen.to(label.device)[crop, label] & (known != BACKGROUND)
    return torch.where(paste[:, None], image, target_image), torch.where(paste, label, target_label)


def jitter(images: Tensor, mean: Tensor, std: Tensor, generator: Generator, strength: float) -> Tensor:
    """Return normalised RGB images in other colours, half of them blurred; as they are for a strength of 0.

    Args:
        mean, std: ``(3, 1, 1)`` of the normalisation.
        strength: largest relative change of brightness, contrast and saturation; the hue turns by up to half of it
            times 180 degrees.
    """
    if not strength:
        return images
    count, device = len(images), images.device
    changes = ((torch.rand(4, count, generator=generator) * 2 - 1) * strength).to(device)
    brightness, contrast, saturation, hue = changes[..., None, None]
    angle = hue / 2 * math.pi
    to_yiq = torch.tensor(_YIQ, device=device)
    # Saturation scales the chromas, hue rotates them.
    chromas = torch.eye(3, device=device).repeat(count, 1, 1)
    rotation = torch.cat([torch.cat([angle.cos(), -angle.sin()], 2), torch.cat([angle.sin(), angle.cos()], 2)], 1)
    chromas[:, 1:, 1:] = rotation * (1 + saturation)
    matrix = torch.linalg.inv(to_yiq) @ chromas @ to_yiq
    colours = torch.einsum("nij,njhw->nihw", matrix, images.float() * std + mean)
    grey = colours.mean((1, 2, 3), keepdim=True)
    colours = (colours - grey) * (1 + contrast[..., None]) + grey * (1 + brightness[..., None])
    changed = ((colours.clamp(0, 255) - mean) / std).to(images.dtype)
    for image in changed:
        if torch.rand((), generator=generator) < 0.5:
            image.copy_(_blur(image, 0.15 + float(torch.rand((), generator=generator))))
    return changed


def _blur(image: Tensor, sigma: float) -> Tensor:
    """Blur ``(3, H, W)`` with a Gaussian of ``sigma`` pixels."""
    radius = max(1, math.ceil(3 * sigma))
    x = torch.arange(-radius, radius + 1, device=image.device, dtype=torch.float32)
    weights = torch.softmax(-(x**2) / (2 * sigma**2), 0).to(image.dtype)
    padded = F.pad(image[None], (radius,) * 4, mode="replicate")[0][:, None]
    return F.conv2d(F.conv2d(padded, weights[None, None, None]), weights[None, None, :, None])[:, 0]


def patch_mask(shape: tuple[int, int, int], ratio: float, block: int, generator: Generator) -> Tensor:
    """Return ``bool (N, H, W)``: random square patches of side ``block`` over about ``ratio`` of each image.

    Source: Hoyer et al., "MIC", CVPR 2023, equation 5.
    """
    count, height, width = shape
    patches = torch.rand(count, math.ceil(height / block), math.ceil(width / block), generator=generator) < ratio
    return patches.repeat_interleave(block, 1).repeat_interleave(block, 2)[:, :height, :width]
