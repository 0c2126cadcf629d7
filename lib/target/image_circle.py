"""The lens's image circle, from the shape of the static surroundings: its centre is where the optical axis points."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class ImageCircle:
    """The lens's image circle, in pixels."""

    x: float
    y: float
    radius: float


def find_image_circle(mask: np.ndarray, size: tuple[int, int]) -> ImageCircle | None:
    """The image circle in pixels of an image of ``size`` = (width, height); None where there is none in view.

    It holds all of the view, and much of the view's outline lies on it. Found from triples of points (RANSAC; Fischler
    & Bolles 1981), drawn the same way every time.

    Args:
        mask: ``bool (H, W)``, True in the surroundings; of any size.
    """
    width, height = size
    mask = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    outlines, _ = cv2.findContours(1 - mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not mask.any() or not outlines:
        return None
    edge = max(outlines, key=len)[:, 0].astype(float)
    edge = edge[((edge > 1) & (edge < (width - 2, height - 2))).all(axis=1)]
    y, x = np.nonzero(mask[::4, ::4] == 0)
    seen = np.stack([x, y], axis=-1) * 4.0
    rng, near, best = np.random.default_rng(0), 0.006 * width, (0, None)
    for _ in range(400 if len(edge) > 50 else 0):
        circle = _through(edge[rng.choice(len(edge), 3, replace=False)])
        if not 0.3 * height < circle.radius < width:
            continue
        off = np.hypot(*(edge - (circle.x, circle.y)).T) - circle.radius
        on = np.abs(off) < near
        holds = (np.hypot(*(seen - (circle.x, circle.y)).T) < circle.radius + 2 * near).mean()
        if holds > 0.995 and on.sum() > best[0]:
            best = on.sum(), on
    if best[1] is None or best[0] < 0.5 * height:
        return None
    return _through(edge[best[1]])


def _through(points: np.ndarray) -> ImageCircle:
    """The circle that fits ``(N, 2)`` points: x^2 + y^2 = 2 a x + 2 b y + c, in least squares (Kasa 1976)."""
    origin = points.mean(axis=0)
    at = points - origin
    a, b, c = np.linalg.lstsq(np.column_stack([2 * at, np.ones(len(at))]), (at**2).sum(axis=1), rcond=None)[0]
    return ImageCircle(origin[0] + a, origin[1] + b, float(np.sqrt(max(c + a * a + b * b, 0))))
