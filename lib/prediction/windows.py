"""Overlapping windows over an image: their places, and the weights of their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

Blend = Literal["constant", "triangular", "gaussian"]
"""How a window's weight falls from its centre to its border."""
BLENDS: tuple[Blend, ...] = get_args(Blend)

_SIGMA = 1 / 8  # of the window, as in nnU-Net (Isensee et al., Nature Methods 2021)
_MIN_WEIGHT = 1e-3  # of the outermost pixels: at an image's border they have no other window


def starts(length: int, window: int, stride: int) -> list[int]:
    """Return the first pixels of the windows along one axis, as mmseg places them; the last window ends inside."""
    count = max(length - window + stride - 1, 0) // stride + 1
    return [max(0, min(i * stride, length - window)) for i in range(count)]


def corners(size: Sequence[int], window: Sequence[int], stride: Sequence[int]) -> list[tuple[int, int]]:
    """Return the upper left pixels (y, x) of the windows over an image; all arguments are (height, width)."""
    rows, columns = (starts(*axis) for axis in zip(size, window, stride, strict=True))
    return [(y, x) for y in rows for x in columns]


def weights(blend: Blend, size: tuple[int, int]) -> np.ndarray:
    """Return the weights of a window's pixels, ``float32 (height, width)``, above 0 and at most 1."""
    down, across = (_profile(blend, length) for length in size)
    return (down[:, None] * across).astype(np.float32)


def _profile(blend: Blend, length: int) -> np.ndarray:
    if blend == "constant":
        return np.ones(length)
    distance = np.abs((np.arange(length) + 0.5) / length - 0.5)  # from the centre, in window lengths
    values = 1 - 2 * distance if blend == "triangular" else np.exp(-0.5 * (distance / _SIGMA) ** 2)
    return np.maximum(values, _MIN_WEIGHT)
