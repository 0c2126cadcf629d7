"""Synthetic weights with the names and shapes of the public release, and small networks that take them."""

import torch
from torch import nn

from lib.internimage import InternImage

TINY = dict(channels=8, depths=[1, 1, 1, 1], groups=[1, 2, 4, 8], mlp_ratio=1.0)


def thin(shapes: dict) -> dict[str, torch.Tensor]:
    """Tensors of these shapes that take no room in a file: one number each, stretched."""
    return {name: torch.full((), 0.5).expand(shape) for name, shape in shapes.items()}


def under(prefix: str, weights: dict) -> dict:
    return {prefix + name: tensor for name, tensor in weights.items()}


class Masks(nn.Module):
    """A backbone and two layers of a Mask2Former head by their names of today."""

    def __init__(self, classes: int):
        super().__init__()
        self.backbone = InternImage(**TINY)
        self.decode_head = nn.ModuleDict(dict(cls_embed=nn.Linear(4, classes + 1)))
        attention = nn.ModuleDict(dict(self_attn=nn.Linear(4, 4)))
        self.decode_head["transformer_decoder"] = nn.ModuleDict(dict(layers=nn.ModuleList([attention])))


def masks(classes: int) -> dict[str, torch.Tensor]:
    """Its weights as mmdet 2 named them, with the layer that such checkpoints have and never used."""
    weights = {name: torch.zeros_like(tensor) for name, tensor in Masks(classes).state_dict().items()}
    weights = {name.replace(".self_attn.", ".attentions.1."): tensor for name, tensor in weights.items()}
    weights["decode_head.cls_embed.bias"] = torch.arange(classes + 1.0)
    return weights | thin({"decode_head.conv_seg.weight": (classes, 4, 1, 1), "decode_head.conv_seg.bias": (classes,)})


class Heads(nn.Module):
    """A backbone and the classifiers of a decode and an auxiliary head."""

    def __init__(self, classes: int):
        super().__init__()
        self.backbone = InternImage(**TINY)
        self.decode_head = nn.ModuleDict(dict(conv_seg=nn.Conv2d(4, classes, 1)))
        self.auxiliary_head = nn.ModuleDict(dict(conv_seg=nn.Conv2d(2, classes, 1)))


def numbered(classes: int) -> dict[str, torch.Tensor]:
    """Weights whose classifiers hold the number of the row."""
    weights = Heads(classes).state_dict()
    for name in weights:
        if "conv_seg" in name:
            rows = torch.arange(float(classes)).reshape(-1, *[1] * (weights[name].ndim - 1))
            weights[name] = rows.expand(weights[name].shape).clone()
    return weights
