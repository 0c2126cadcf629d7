"""Base classes of the camera models: radial projection, image size, focal length and principal point.

A ray at the angle ``theta`` (rad) to the optical axis lands ``radius(theta)`` focal lengths from the principal point.
A model of :mod:`lib.camera.models` defines that function, its inverse and its largest angle.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from math import isfinite
from numbers import Integral, Real
from typing import Self

import numpy as np
from numpy.polynomial import polynomial

BEHIND = float(np.nextafter(np.pi, 0))
"""The largest angle of any lens (rad); the direction straight behind would be a circle instead of a point."""
_TINY = 1e-300  # keeps 0 / 0 from being NaN on the optical axis


@dataclass(frozen=True)
class Camera:
    """Base class of all camera models; ``fx``, ``fy``, ``cx``, ``cy`` are in pixels.

    A model defines ``radius`` (rad to focal lengths), its inverse ``angle``, and ``max_angle``.

    Raises:
        ValueError: a field is no number or out of range.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self):
        for field in fields(Camera):
            value, whole = getattr(self, field.name), field.name in ("width", "height")
            valid = isinstance(value, Integral if whole else Real) and isfinite(value)
            if not valid or (value <= 0 and field.name not in ("cx", "cy")):
                expected = "a whole number above 0" if whole else "a number" + " above 0" * (field.name[0] == "f")
                raise ValueError(f"camera {type(self).__name__}: {field.name} is {value!r} (expected: {expected})")

    @classmethod
    def from_fov(cls, size: tuple[int, int], hfov_rad: float, *shape, **named) -> Self:
        """Build a centred camera with square pixels.

        Args:
            size: (width, height) in pixels.
            hfov_rad: horizontal field of view, covered by the image's width.
            shape, named: the model's own fields.

        Raises:
            ValueError: the field of view exceeds the lens's.
        """
        width, height = size
        unit = cls(width, height, 1.0, 1.0, (width - 1) / 2, (height - 1) / 2, *shape, **named)
        if not 0 < hfov_rad / 2 < unit.max_angle:
            raise ValueError(f"hfov_rad: {hfov_rad:.3f} (expected: above 0 and below {2 * unit.max_angle:.3f})")
        f = width / 2 / float(unit.radius(np.asarray(hfov_rad / 2)))
        return replace(unit, fx=f, fy=f)

    @property
    def max_angle(self) -> float:
        """Largest angle to the axis (rad) of the valid domain, in which the radius grows with the angle."""
        raise NotImplementedError

    def radius(self, theta: np.ndarray) -> np.ndarray:
        """Return the distance from the principal point (focal lengths) of rays at angles ``theta`` (rad)."""
        raise NotImplementedError

    def angle(self, radius: np.ndarray) -> np.ndarray:
        """Invert :meth:`radius`; beyond the valid domain the result is anything finite or NaN."""
        raise NotImplementedError

    def project(self, rays) -> np.ndarray:
        """Project directions ``float (..., 3)`` of any length to pixels (x, y), ``float64 (..., 2)``."""
        rays = np.asarray(rays, dtype=np.float64)
        across = np.hypot(rays[..., 0], rays[..., 1])
        theta = np.arctan2(across, rays[..., 2])
        theta = np.where(theta <= self.max_angle, theta, np.nan)
        scale = self.radius(theta) / np.maximum(across, _TINY)
        return rays[..., :2] * scale[..., None] * (self.fx, self.fy) + (self.cx, self.cy)

    def unproject(self, pixels) -> np.ndarray:
        """Return the unit rays ``float64 (..., 3)`` of pixels (x, y), ``float (..., 2)``."""
        xy = (np.asarray(pixels, dtype=np.float64) - (self.cx, self.cy)) / (self.fx, self.fy)
        radius = np.hypot(xy[..., 0], xy[..., 1])
        largest = float(self.radius(np.asarray(self.max_angle))) * (1 + 1e-12)
        theta = self.angle(np.where(radius <= largest, radius, np.nan))
        across = np.sin(theta) / np.maximum(radius, _TINY)
        return np.concatenate([xy * across[..., None], np.cos(theta)[..., None]], axis=-1)

    def rays(self) -> np.ndarray:
        """Return the unit ray of every pixel, ``float64 (height, width, 3)``; NaN outside the valid domain."""
        x, y = np.meshgrid(np.arange(self.width, dtype=np.float64), np.arange(self.height, dtype=np.float64))
        return self.unproject(np.stack([x, y], axis=-1))

    def scaled(self, size: tuple[int, int]) -> Self:
        """Return the same camera with images of ``size`` = (width, height)."""
        sx, sy = size[0] / self.width, size[1] / self.height
        cx, cy = (self.cx + 0.5) * sx - 0.5, (self.cy + 0.5) * sy - 0.5
        return replace(self, width=int(size[0]), height=int(size[1]), fx=self.fx * sx, fy=self.fy * sy, cx=cx, cy=cy)

    def to_dict(self) -> dict:
        """Return plain numbers, text and lists, which :func:`lib.camera.models.from_dict` reads."""
        values = {k: np.asarray(v).tolist() for k, v in asdict(self).items()}  # NumPy's numbers become Python's
        return {"model": type(self).__name__, **values}


class Polynomial(Camera):
    """A camera whose radius is a polynomial of the angle, inverted numerically."""

    _CELLS, _STEPS = 1024, 12

    @property
    def _coefficients(self) -> np.ndarray:
        """Coefficients of theta^0, theta^1 and so on."""
        raise NotImplementedError

    @cached_property
    def max_angle(self) -> float:
        slope = polynomial.polyder(self._coefficients)
        # Without the trimming, a last coefficient of 1e-300 makes the search for roots overflow.
        roots = polynomial.polyroots(polynomial.polytrim(slope, 1e-12 * np.abs(slope).max()))
        turning = [root.real for root in roots if abs(root.imag) < 1e-9 and root.real > 0]
        return float(min([BEHIND, *turning]))

    def radius(self, theta: np.ndarray) -> np.ndarray:
        return polynomial.polyval(theta, self._coefficients)

    def angle(self, radius: np.ndarray) -> np.ndarray:
        """Invert by Newton's method from a table, and by bisection where a step would leave the table's cell."""
        angles = np.linspace(0, self.max_angle, self._CELLS + 1)
        radii = self.radius(angles)
        cell = np.clip(np.searchsorted(radii, radius), 1, self._CELLS)
        low, high = angles[cell - 1], angles[cell]
        theta = np.interp(radius, radii, angles)
        slope = polynomial.polyder(self._coefficients)
        for _ in range(self._STEPS):
            error = self.radius(theta) - radius
            low, high = np.where(error < 0, theta, low), np.where(error > 0, theta, high)
            with np.errstate(divide="ignore", invalid="ignore"):
                step = theta - error / polynomial.polyval(theta, slope)
            before, theta = theta, np.where((step >= low) & (step <= high), step, (low + high) / 2)
            # Newton's error is about the square of its last step.
            if not (np.abs(theta - before) > 1e-8).any():
                break
        return np.where(np.isnan(radius), np.nan, theta)
