"""What every camera model has in common: radial symmetry, an image size, a focal length and a principal point.

A ray at the angle ``theta`` to the optical axis lands at the distance ``radius(theta)`` from the principal point,
in focal lengths. A model of :mod:`lib.camera.models` is that function, its inverse and its reach.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from math import isfinite
from numbers import Integral, Real
from pathlib import Path

import numpy as np
from numpy.polynomial import polynomial

from lib.files import write_yaml

BEHIND = float(np.nextafter(np.pi, 0))
"""The largest angle of any lens: straight behind, it shows a circle instead of a point."""
_TINY = 1e-300  # keeps 0 / 0 from being NaN on the optical axis


@dataclass(frozen=True)
class Camera:
    """What all models share: an image size, a focal length and a principal point, in pixels.

    A model adds ``radius`` (rad to focal lengths), its inverse ``angle`` and ``max_angle``.
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
            sound = isinstance(value, Integral if whole else Real) and isfinite(value)
            if not sound or (value <= 0 and field.name not in ("cx", "cy")):
                expected = "a whole number above 0" if whole else "a number" + " above 0" * (field.name[0] == "f")
                raise ValueError(f"camera {type(self).__name__}: {field.name} is {value!r} (expected: {expected})")

    @classmethod
    def from_fov(cls, size: tuple[int, int], hfov: float, *shape, **named) -> Camera:
        """Square pixels, centred.

        Args:
            size: (width, height) in pixels.
            hfov: horizontal field of view (rad): what the image's width covers.
            shape, named: the model's own fields.

        Raises:
            ValueError: the lens does not reach so far.
        """
        width, height = size
        unit = cls(width, height, 1.0, 1.0, (width - 1) / 2, (height - 1) / 2, *shape, **named)
        if not 0 < hfov / 2 < unit.max_angle:
            raise ValueError(f"hfov: {hfov:.3f} rad (this lens reaches {2 * unit.max_angle:.3f} rad)")
        f = width / 2 / float(unit.radius(np.float64(hfov / 2)))
        return replace(unit, fx=f, fy=f)

    @property
    def max_angle(self) -> float:
        """Largest angle to the axis (rad) of the valid domain; up to it the radius grows with the angle."""
        raise NotImplementedError

    def radius(self, theta: np.ndarray) -> np.ndarray:
        """Distance from the principal point, in focal lengths, of a ray at angle ``theta`` (rad)."""
        raise NotImplementedError

    def angle(self, radius: np.ndarray) -> np.ndarray:
        """Inverse of :meth:`radius` for radii of the valid domain; anything finite or NaN beyond it."""
        raise NotImplementedError

    def project(self, rays) -> np.ndarray:
        """``float (..., 3)`` directions of any length to ``float64 (..., 2)`` pixels (x, y)."""
        rays = np.asarray(rays, dtype=np.float64)
        across = np.hypot(rays[..., 0], rays[..., 1])
        theta = np.arctan2(across, rays[..., 2])
        theta = np.where(theta <= self.max_angle, theta, np.nan)
        scale = self.radius(theta) / np.maximum(across, _TINY)
        return rays[..., :2] * scale[..., None] * (self.fx, self.fy) + (self.cx, self.cy)

    def unproject(self, pixels) -> np.ndarray:
        """``float (..., 2)`` pixels (x, y) to ``float64 (..., 3)`` unit rays."""
        xy = (np.asarray(pixels, dtype=np.float64) - (self.cx, self.cy)) / (self.fx, self.fy)
        radius = np.hypot(xy[..., 0], xy[..., 1])
        reach = float(self.radius(np.float64(self.max_angle))) * (1 + 1e-12)
        theta = self.angle(np.where(radius <= reach, radius, np.nan))
        across = np.sin(theta) / np.maximum(radius, _TINY)
        return np.concatenate([xy * across[..., None], np.cos(theta)[..., None]], axis=-1)

    def rays(self) -> np.ndarray:
        """Unit ray of every pixel, ``float64 (height, width, 3)``; NaN where the lens sees nothing."""
        x, y = np.meshgrid(np.arange(self.width, dtype=np.float64), np.arange(self.height, dtype=np.float64))
        return self.unproject(np.stack([x, y], axis=-1))

    def valid(self) -> np.ndarray:
        """``bool (height, width)``: pixels inside the model's valid domain, those that have a ray."""
        y, x = np.ogrid[: self.height, : self.width]
        radius = np.hypot((x - self.cx) / self.fx, (y - self.cy) / self.fy)
        return radius <= self.radius(np.float64(self.max_angle)) * (1 + 1e-12)

    def scaled(self, size: tuple[int, int]) -> Camera:
        """The same camera read out at another ``size`` = (width, height)."""
        sx, sy = size[0] / self.width, size[1] / self.height
        return replace(
            self,
            width=int(size[0]),
            height=int(size[1]),
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
        )

    def to_dict(self) -> dict:
        """Plain numbers, names and lists; :func:`from_dict` reads it back."""
        values = {k: np.asarray(v).tolist() for k, v in asdict(self).items()}  # NumPy's numbers become Python's
        return {"model": type(self).__name__, **values}

    def to_yaml(self, path: str | Path) -> None:
        """Write :meth:`to_dict` to a file that :func:`from_yaml` reads back."""
        write_yaml(path, self.to_dict())


class Polynomial(Camera):
    """A radius that is a polynomial of the angle, inverted numerically."""

    _CELLS, _STEPS = 1024, 12

    @property
    def _coefficients(self) -> np.ndarray:
        """Of theta^0, theta^1 and so on."""
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
        """Newton's method from a table, with bisection where a step would leave the table's cell."""
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
