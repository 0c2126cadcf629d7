"""Overlapping windows over an image: their places, and the weights of their pixels."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

Blend = Literal["constant", "triangular", "gaussian"]
"""How a window's weight falls from its centre to its border."""

_SIGMA = 1 / 8  # of the window, as in nnU-Net (Isensee et al., Nature Methods 2021)
_MIN_WEIGHT = 1e-3  # of the outermost pixels: at an image's border they have no other window


def corners(size: Sequence[int], window: Sequence[int], stride: Sequence[int]) -> list[tuple[int, int]]:
    """Return the upper left pixels (y, x) of the windows, as mmseg places them; all arguments are (height, width)."""
    bottom, right = (max(0, length - part) for length, part in zip(size, window, strict=True))
    rows, columns = (range(0, last + step, step) for last, step in zip((bottom, right), stride, strict=True))
    return [(min(y, bottom), min(x, right)) for y in rows for x in columns]


def weights(blend: Blend, size: tuple[int, int]) -> np.ndarray:
    """Return the weights of a window's pixels, ``float32 (height, width)``, above 0 and at most 1."""
    if blend == "constant":
        return np.ones(size, np.float32)
    distances = (np.abs((np.arange(length) + 0.5) / length - 0.5) for length in size)  # from the centre, in lengths
    if blend == "triangular":
        profiles = [1 - 2 * distance for distance in distances]
    else:
        profiles = [np.exp(-0.5 * (distance / _SIGMA) ** 2) for distance in distances]
    down, across = (np.maximum(profile, _MIN_WEIGHT) for profile in profiles)
    return np.outer(down, across).astype(np.float32)
