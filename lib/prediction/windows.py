"""Overlapping windows over an image: where they lie, and how much each counts where several overlap."""

from __future__ import annotations

import numpy as np

BLENDS = ("constant", "triangular", "gaussian")
"""How a window's weight falls from its middle to its border."""

_SIGMA = 1 / 8  # of the window, as in nnU-Net (Isensee et al., Nature Methods 2021)
_LEAST = 1e-3  # weight of the outermost pixels, so that an image's border keeps its one window


def starts(length: int, window: int, stride: int) -> list[int]:
    """First pixels of the windows along one axis, as mmseg places them: the last one is moved back into the image."""
    count = max(length - window + stride - 1, 0) // stride + 1
    return [max(0, min(i * stride, length - window)) for i in range(count)]


def corners(size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int]) -> list[tuple[int, int]]:
    """(y, x) of the windows over an image of ``size``; all three are (height, width)."""
    rows, columns = (starts(*axis) for axis in zip(size, window, stride, strict=True))
    return [(y, x) for y in rows for x in columns]


def weights(blend: str, size: tuple[int, int]) -> np.ndarray:
    """``float32 (height, width)`` weights of a window's pixels, at most 1 and above 0; one of :data:`BLENDS`."""
    down, across = (_profile(blend, n) for n in size)
    return np.float32(down[:, None] * across)


def _profile(blend: str, length: int) -> np.ndarray:
    if blend == "constant":
        return np.ones(length)
    off = np.abs((np.arange(length) + 0.5) / length - 0.5)  # from the middle, in window lengths
    values = 1 - 2 * off if blend == "triangular" else np.exp(-0.5 * (off / _SIGMA) ** 2)
    return np.maximum(values, _LEAST)
