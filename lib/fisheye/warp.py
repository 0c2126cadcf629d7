"""Bend an image from one camera into another: for each target pixel, the source pixel that saw the same ray.

The remap table depends on the two cameras and the rotation alone, so image and label move together.
"""

from __future__ import annotations

import cv2
import numpy as np

from lib.classes import IGNORE
from lib.fisheye.cameras import Camera


def rotation(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """``float64 (3, 3)`` matrix turning a camera right (yaw), up (pitch) and clockwise (roll), in radians."""
    vectors = ((0.0, yaw, 0.0), (pitch, 0.0, 0.0), (0.0, 0.0, roll))
    about_y, about_x, about_z = (cv2.Rodrigues(np.array(v, dtype=np.float64))[0] for v in vectors)
    return about_y @ about_x @ about_z


def remap_table(target: Camera, source: Camera, turn: np.ndarray | None = None) -> np.ndarray:
    """Source pixel of every target pixel.

    Args:
        target: camera to render.
        source: camera that took the image.
        turn: ``(3, 3)`` rotation from target to source rays; the target camera looks along ``turn[:, 2]`` of
            the source. None: both look the same way.

    Returns:
        ``float32 (target.height, target.width, 2)`` source pixels (x, y); NaN where the source sees nothing.
    """
    rays = target.rays()
    if turn is not None:
        rays = rays @ turn.T
    table = source.project(rays)
    # Half a pixel beyond the outer centres still belongs to the image.
    inside = (np.abs(table - ((source.width - 1) / 2, (source.height - 1) / 2))
              <= (source.width / 2, source.height / 2)).all(axis=-1)  # fmt: skip
    return np.where(inside[..., None], table, np.nan).astype(np.float32)


def covered(table: np.ndarray) -> np.ndarray:
    """``bool (H, W)``: target pixels that the source image covers."""
    return np.isfinite(table[..., 0])


def warp_image(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Bilinear sampling of ``uint8 (h, w, 3)`` at ``table``; black where the source sees nothing."""
    seen = covered(table)
    warped = cv2.remap(image, _finite(table), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    warped[~seen] = 0
    return warped


def warp_label(label: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Nearest sampling of ``uint8 (h, w)`` class ids at ``table``; IGNORE where the source sees nothing."""
    seen = covered(table)
    warped = cv2.remap(label, _finite(table), None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    warped[~seen] = IGNORE
    return warped


def _finite(table: np.ndarray) -> np.ndarray:
    return np.nan_to_num(table, nan=-1.0)
