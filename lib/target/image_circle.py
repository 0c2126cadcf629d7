"""Image circle of a lens, from the overlay's shape: the optical axis points at its centre."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_TRIES = 400


@dataclass(frozen=True)
class ImageCircle:
    """Image circle of a lens, in pixels."""

    x: float
    y: float
    radius: float


def find_image_circle(mask: np.ndarray, size: tuple[int, int]) -> ImageCircle | None:
    """Find the image circle in images of ``size`` = (width, height); None where none is in view.

    The circle holds all of the view, and much of the view's outline lies on it. RANSAC (Fischler & Bolles 1981) with
    a fixed seed finds it from triples of points.

    Args:
        mask: ``bool (H, W)`` of any size, True in the overlay.
    """
    width, height = size
    mask = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    outlines, _ = cv2.findContours(1 - mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not mask.any() or not outlines:
        return None
    outline = max(outlines, key=len)[:, 0].astype(float)
    outline = outline[((outline > 1) & (outline < (width - 2, height - 2))).all(axis=1)]
    y, x = np.nonzero(mask[::4, ::4] == 0)
    view = np.stack([x, y], axis=-1) * 4.0
    rng, tolerance = np.random.default_rng(0), 0.006 * width
    most, inliers = (height - 1) // 2, None  # half the height at least
    for _ in range(_TRIES if len(outline) > 50 else 0):
        circle = _fit_circle(outline[rng.choice(len(outline), 3, replace=False)])
        if not 0.3 * height < circle.radius < width:
            continue
        on = np.abs(np.hypot(*(outline - (circle.x, circle.y)).T) - circle.radius) < tolerance
        inside = (np.hypot(*(view - (circle.x, circle.y)).T) < circle.radius + 2 * tolerance).mean()
        if inside > 0.995 and on.sum() > most:
            most, inliers = on.sum(), on
    return None if inliers is None else _fit_circle(outline[inliers])


def _fit_circle(points: np.ndarray) -> ImageCircle:
    """Fit a circle to ``(N, 2)`` points by least squares: x^2 + y^2 = 2 a x + 2 b y + c (Kasa 1976)."""
    origin = points.mean(axis=0)
    centred = points - origin
    columns = np.column_stack([2 * centred, np.ones(len(centred))])
    a, b, c = np.linalg.lstsq(columns, (centred**2).sum(axis=1), rcond=None)[0]
    return ImageCircle(origin[0] + a, origin[1] + b, float(np.sqrt(max(c + a * a + b * b, 0))))
