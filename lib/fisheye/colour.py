"""Give one image the colours of another: mean and spread of each channel in CIE L*a*b*.

Source: Reinhard et al., "Color transfer between images", IEEE Computer Graphics and Applications 2001.
"""

from __future__ import annotations

import cv2
import numpy as np

_LIMITS = (0.5, 2.0)  # of the change of spread: beyond, a flat image would turn into noise


def statistics(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean and standard deviation of L*, a*, b* of ``uint8 (H, W, 3)`` where ``bool (H, W)``: ``float32 (2, 3)``."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)[mask].astype(np.float32)
    return np.stack([lab.mean(axis=0), lab.std(axis=0)])


def transfer(image: np.ndarray, mask: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """``uint8 (H, W, 3)`` RGB, recoloured so that its statistics where ``mask`` come close to ``wanted``."""
    found = statistics(image, mask)
    gain = np.clip(wanted[1] / np.maximum(found[1], 1e-3), *_LIMITS)
    lab = (cv2.cvtColor(image, cv2.COLOR_RGB2LAB) - found[0]) * gain + wanted[0]
    return cv2.cvtColor(lab.round().clip(0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB)
