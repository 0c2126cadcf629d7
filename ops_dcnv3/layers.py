"""Normalisation and activation by name, and the two changes of layout that go with them.

DCNv3 and the backbone share these; their nesting is part of the public state-dict names, since a change of
layout takes up a place in its ``Sequential``.
"""

from __future__ import annotations

from torch import Tensor, nn

ACTIVATIONS = {"GELU": nn.GELU, "ReLU": nn.ReLU, "SiLU": nn.SiLU}


class ChannelsFirst(nn.Module):
    """(N, H, W, C) to (N, C, H, W), as a view."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)


class ChannelsLast(nn.Module):
    """(N, C, H, W) to (N, H, W, C), as a view."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


def activation(name: str) -> nn.Module:
    """A new activation module.

    Raises:
        ValueError: ``name`` is not in :data:`ACTIVATIONS`.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"act_layer: {name!r} (expected one of {', '.join(ACTIVATIONS)})")
    return ACTIVATIONS[name]()


def normalisation(channels: int, name: str = "LN", *, first_in: bool = False, first_out: bool = False):
    """Layer norm (``"LN"``, epsilon 1e-6) or batch norm (``"BN"``) between two layouts.

    Args:
        channels: C of the input.
        name: ``"LN"`` or ``"BN"``.
        first_in: the input is (N, C, H, W) instead of (N, H, W, C).
        first_out: so shall the output be.

    Raises:
        ValueError: another ``name``.
    """
    norm: nn.Module
    if name == "LN":
        norm, norm_first = nn.LayerNorm(channels, eps=1e-6), False
    elif name == "BN":
        norm, norm_first = nn.BatchNorm2d(channels), True
    else:
        raise ValueError(f"norm_layer: {name!r} (expected LN or BN)")
    before = [ChannelsFirst() if norm_first else ChannelsLast()] if first_in != norm_first else []
    after = [ChannelsFirst() if first_out else ChannelsLast()] if first_out != norm_first else []
    return nn.Sequential(*before, norm, *after)
