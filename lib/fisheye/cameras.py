"""Camera models: where a ray lands in the image, and which ray a pixel saw.

Cameras look along +z with x to the right and y down; pixel centres are at integer coordinates, as in
OpenCV. A ray or a pixel outside a model's valid domain gives NaN, so results can be chained and tested once
at the end with ``numpy.isfinite``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import ClassVar

import numpy as np


@dataclass(frozen=True)
class Camera:
    """What all models share: an image size, a focal length and a principal point, in pixels.

    A model adds ``project`` and ``unproject``:

    - ``project(rays)``: ``float (..., 3)`` directions of any length to ``float64 (..., 2)`` pixels (x, y).
    - ``unproject(pixels)``: ``float (..., 2)`` pixels to ``float64 (..., 3)`` unit rays.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def project(self, rays) -> np.ndarray:
        raise NotImplementedError

    def unproject(self, pixels) -> np.ndarray:
        raise NotImplementedError

    def rays(self) -> np.ndarray:
        """Unit ray of every pixel, ``float64 (height, width, 3)``; NaN where the lens sees nothing."""
        x, y = np.meshgrid(np.arange(self.width, dtype=np.float64), np.arange(self.height, dtype=np.float64))
        return self.unproject(np.stack([x, y], axis=-1))

    def scaled(self, size: tuple[int, int]) -> Camera:
        """The same camera read out at another ``size`` = (width, height)."""
        sx, sy = size[0] / self.width, size[1] / self.height
        return replace(
            self, width=int(size[0]), height=int(size[1]), fx=self.fx * sx, fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5, cy=(self.cy + 0.5) * sy - 0.5,
        )  # fmt: skip

    def to_dict(self) -> dict:
        """Plain numbers and lists for a YAML file; :func:`from_dict` reads it back."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {"model": type(self).__name__, **values}

    def _normalise(self, pixels) -> np.ndarray:
        pixels = np.asarray(pixels, dtype=np.float64)
        return (pixels - (self.cx, self.cy)) / (self.fx, self.fy)


@dataclass(frozen=True)
class Pinhole(Camera):
    """The undistorted perspective camera; sees rays with z > 0."""

    @classmethod
    def from_fov(cls, size: tuple[int, int], hfov: float) -> Pinhole:
        """Square pixels, centred; ``size`` = (width, height), ``hfov`` the horizontal field of view in rad."""
        width, height = size
        if not 0 < hfov < np.pi:
            raise ValueError(f"hfov: {hfov:.3f} rad (a pinhole needs 0 < hfov < pi)")
        f = width / 2 / float(np.tan(hfov / 2))
        return cls(width, height, f, f, (width - 1) / 2, (height - 1) / 2)

    def project(self, rays) -> np.ndarray:
        rays = np.asarray(rays, dtype=np.float64)
        z = np.where(rays[..., 2] > 0, rays[..., 2], np.nan)
        return rays[..., :2] / z[..., None] * (self.fx, self.fy) + (self.cx, self.cy)

    def unproject(self, pixels) -> np.ndarray:
        xy = self._normalise(pixels)
        rays = np.concatenate([xy, np.ones_like(xy[..., :1])], axis=-1)
        return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


@dataclass(frozen=True)
class Fisheye(Camera):
    """Kannala-Brandt fisheye with OpenCV's four coefficients.

    The angle ``theta`` to the optical axis lands at radius
    ``theta * (1 + k1 theta^2 + k2 theta^4 + k3 theta^6 + k4 theta^8)`` focal lengths from the principal
    point. With all coefficients zero it is the equidistant lens. Valid up to ``max_angle``, where the radius
    stops growing (at most pi). Source: Kannala & Brandt, "A generic camera model and calibration method",
    PAMI 2006; OpenCV ``cv2.fisheye``.
    """

    k: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    _NEWTON_STEPS: ClassVar[int] = 12

    @classmethod
    def from_fov(cls, size: tuple[int, int], hfov: float, k=(0.0, 0.0, 0.0, 0.0)) -> Fisheye:
        """Square pixels, centred; ``hfov`` (rad) is what the image width covers."""
        width, height = size
        unit = cls(width, height, 1.0, 1.0, (width - 1) / 2, (height - 1) / 2, tuple(float(v) for v in k))
        if not 0 < hfov / 2 <= unit.max_angle:
            raise ValueError(f"hfov: {hfov:.3f} rad (this lens reaches {2 * unit.max_angle:.3f} rad)")
        f = width / 2 / float(unit.radius(np.float64(hfov / 2)))
        return replace(unit, fx=f, fy=f)

    @property
    def max_angle(self) -> float:
        """Largest angle to the axis (rad) up to which the radius grows with the angle."""
        k1, k2, k3, k4 = (k if abs(k) > 1e-12 else 0.0 for k in self.k)  # else the roots overflow
        roots = np.roots([9 * k4, 7 * k3, 5 * k2, 3 * k1, 1.0])  # d radius / d theta, in theta^2
        turning = [np.sqrt(r.real) for r in roots if abs(r.imag) < 1e-9 and r.real > 0]
        return float(min([np.pi, *turning]))

    def radius(self, theta: np.ndarray) -> np.ndarray:
        """Distance from the principal point, in focal lengths, of a ray at angle ``theta`` (rad)."""
        k1, k2, k3, k4 = self.k
        t2 = theta * theta
        return theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))

    def angle(self, radius: np.ndarray) -> np.ndarray:
        """Inverse of :meth:`radius` by Newton's method kept inside the valid domain; NaN beyond it."""
        k1, k2, k3, k4 = self.k
        limit = self.max_angle
        theta = np.minimum(radius, limit)
        low, high = np.zeros_like(theta), np.full_like(theta, limit)
        for _ in range(self._NEWTON_STEPS):
            t2 = theta * theta
            slope = 1 + t2 * (3 * k1 + t2 * (5 * k2 + t2 * (7 * k3 + t2 * 9 * k4)))
            error = self.radius(theta) - radius
            low, high = np.where(error < 0, theta, low), np.where(error > 0, theta, high)
            with np.errstate(divide="ignore", invalid="ignore"):
                step = theta - error / slope
            inside = (step >= low) & (step <= high)
            theta = np.where(inside, step, (low + high) / 2)
        reach = float(self.radius(np.float64(limit)))
        return np.where(radius <= reach * (1 + 1e-12), theta, np.nan)

    def project(self, rays) -> np.ndarray:
        rays = np.asarray(rays, dtype=np.float64)
        across = np.hypot(rays[..., 0], rays[..., 1])
        theta = np.arctan2(across, rays[..., 2])
        theta = np.where(theta <= self.max_angle, theta, np.nan)
        scale = np.where(across > 1e-12, self.radius(theta) / np.maximum(across, 1e-12), 1.0)
        scale = np.where(np.isnan(theta), np.nan, scale)
        return rays[..., :2] * scale[..., None] * (self.fx, self.fy) + (self.cx, self.cy)

    def unproject(self, pixels) -> np.ndarray:
        xy = self._normalise(pixels)
        radius = np.hypot(xy[..., 0], xy[..., 1])
        theta = self.angle(radius)
        across = np.where(radius > 1e-12, np.sin(theta) / np.maximum(radius, 1e-12), 1.0)
        across = np.where(np.isnan(theta), np.nan, across)
        return np.concatenate([xy * across[..., None], np.cos(theta)[..., None]], axis=-1)


def from_dict(values: dict) -> Camera:
    """The camera that :meth:`Camera.to_dict` described.

    Raises:
        ValueError: unknown model name, or fields missing or too many; names what was found.
    """
    models = {model.__name__: model for model in (Pinhole, Fisheye)}
    values = dict(values)
    name = values.pop("model", None)
    if name not in models:
        raise ValueError(f"camera model: {name!r} (known: {', '.join(models)})")
    model = models[name]
    wanted = [f.name for f in fields(model)]
    if sorted(values) != sorted(wanted):
        raise ValueError(f"camera {name}: fields {sorted(values)} (expected: {sorted(wanted)})")
    return model(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
