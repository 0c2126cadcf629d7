"""Normalisation and activation by name, and changes of layout between channels first and channels last.

DCNv3 and the backbone share them. Their nesting is part of the public state-dict names: a change of layout has an index
in its ``Sequential``.
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
    """Build an activation module.

    Raises:
        ValueError: ``name`` is not in :data:`ACTIVATIONS`.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"act_layer: {name!r} (expected one of {', '.join(ACTIVATIONS)})")
    return ACTIVATIONS[name]()


def normalisation(channels: int, name: str = "LN", *, first_in: bool = False, first_out: bool = False) -> nn.Module:
    """Build a layer norm (``"LN"``, epsilon 1e-6) or batch norm (``"BN"``) between two layouts.

    Args:
        channels: C of the input.
        name: ``"LN"`` or ``"BN"``.
        first_in: the input is (N, C, H, W) instead of (N, H, W, C).
        first_out: the output is (N, C, H, W) instead of (N, H, W, C).

    Raises:
        ValueError: unknown ``name``.
    """
    if name not in ("LN", "BN"):
        raise ValueError(f"norm_layer: {name!r} (expected LN or BN)")
    norm_first = name == "BN"
    norm = nn.BatchNorm2d(channels) if norm_first else nn.LayerNorm(channels, eps=1e-6)
    before = [ChannelsFirst() if norm_first else ChannelsLast()] if first_in != norm_first else []
    after = [ChannelsFirst() if first_out else ChannelsLast()] if first_out != norm_first else []
    return nn.Sequential(*before, norm, *after)
