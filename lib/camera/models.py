"""Camera models: pinhole, four fisheye families and the double sphere.

Cameras look along +z with x to the right and y down; pixel centres are at integer coordinates, as in OpenCV.
A ray at the angle ``theta`` (rad) to the axis lands ``r = radius(theta)`` focal lengths from the principal point.
Rays and pixels outside a model's valid domain become NaN, so a chain of calls needs one test with ``numpy.isfinite``.
"""

import reprlib
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.polynomial import polynomial

BEHIND = float(np.nextafter(np.pi, 0))
"""The largest angle of any lens (rad); the direction straight behind would be a circle instead of a point."""
_LARGEST = 1e9  # of any field: far beyond all lenses, far below overflow
_TINY = 1e-300  # keeps 0 / 0 from being NaN on the optical axis


def _is_number(value: object) -> bool:
    """Return whether a value is a number that a camera can have; YAML's true and false are none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return abs(float(value)) <= _LARGEST
    except OverflowError:  # an integer of hundreds of digits
        return False


@dataclass(frozen=True)
class Camera:
    """Base class of all camera models; ``fx``, ``fy``, ``cx``, ``cy`` are in pixels."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self):
        for field in fields(Camera):
            value, whole = getattr(self, field.name), field.name in ("width", "height")
            valid = _is_number(value) and (isinstance(value, Integral) or not whole)
            if not valid or (value <= 0 and field.name not in ("cx", "cy")):
                expected = "a whole number above 0" if whole else "a number" + " above 0" * (field.name[0] == "f")
                found = reprlib.repr(value)
                raise ValueError(f"camera {type(self).__name__}: {field.name} is {found} (expected: {expected})")

    @classmethod
    def from_fov(cls, size: tuple[int, int], hfov_rad: float, *shape, **named) -> Self:
        """Build a centred camera whose width covers a horizontal field of view; ``shape``: the model's own fields."""
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
        """Return the distance from the principal point (focal lengths) of rays at angles to the axis (rad)."""
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
        largest = self.radius(np.asarray(self.max_angle)) * (1 + 1e-12)
        theta = self.angle(np.where(radius <= largest, radius, np.nan))
        across = np.sin(theta) / np.maximum(radius, _TINY)
        return np.concatenate([xy * across[..., None], np.cos(theta)[..., None]], axis=-1)

    def rays(self) -> np.ndarray:
        """Return the unit ray of every pixel, ``float64 (height, width, 3)``; NaN outside the valid domain."""
        return self.unproject(np.stack(np.meshgrid(np.arange(self.width), np.arange(self.height)), axis=-1))

    def scaled(self, size: tuple[int, int]) -> Self:
        """Return the same camera for images of ``size`` = (width, height)."""
        sx, sy = size[0] / self.width, size[1] / self.height
        cx, cy = (self.cx + 0.5) * sx - 0.5, (self.cy + 0.5) * sy - 0.5
        return replace(self, width=int(size[0]), height=int(size[1]), fx=self.fx * sx, fy=self.fy * sy, cx=cx, cy=cy)

    def to_dict(self) -> dict:
        """Return plain numbers, text and lists, which :func:`lib.camera.models.from_dict` reads."""
        plain = {k: np.asarray(v).tolist() for k, v in asdict(self).items()}  # NumPy's numbers become Python's
        return {"model": type(self).__name__, **plain}


class Polynomial(Camera):
    """A camera whose radius is a polynomial of the angle; its last field holds the coefficients of ``_POWERS``."""

    _POWERS: ClassVar[tuple[int, int, int, int]]
    _CELLS, _STEPS = 1024, 12

    def __post_init__(self):
        super().__post_init__()
        field = fields(self)[-1].name
        given = getattr(self, field)
        if not isinstance(given, Sequence) or len(given) != 4 or not all(map(_is_number, given)):
            found = reprlib.repr(given)
            raise ValueError(f"camera {type(self).__name__}: {field} is {found} (expected: four numbers)")
        object.__setattr__(self, field, tuple(map(float, given)))

    @property
    def _coefficients(self) -> np.ndarray:
        """Coefficients of theta^0, theta^1 and so on."""
        coefficients = np.zeros(10)
        coefficients[1] = 1
        coefficients[list(self._POWERS)] = getattr(self, fields(self)[-1].name)
        return coefficients

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


@dataclass(frozen=True)
class Pinhole(Camera):
    """Perspective camera without distortion, r = tan(theta), for rays with z > 0."""

    max_angle = float(np.nextafter(np.pi / 2, 0))

    def radius(self, theta: np.ndarray) -> np.ndarray:
        return np.tan(theta)

    def angle(self, radius: np.ndarray) -> np.ndarray:
        return np.arctan(radius)


@dataclass(frozen=True)
class ClassicFisheye(Camera):
    """Textbook fisheye projections; ``kind`` is one of ``ClassicFisheye.KINDS``.

    Equidistant r = theta, equisolid r = 2 sin(theta / 2), stereographic r = 2 tan(theta / 2), orthographic
    r = sin(theta). Source: Miyamoto, "Fish eye lens", JOSA 1964.
    """

    kind: str

    KINDS = ("equidistant", "equisolid", "stereographic", "orthographic")

    def __post_init__(self):
        super().__post_init__()
        if self.kind not in self.KINDS:
            raise ValueError(
                f"camera ClassicFisheye: kind is {reprlib.repr(self.kind)} (known: {', '.join(self.KINDS)})"
            )

    @property
    def max_angle(self) -> float:
        return np.pi / 2 if self.kind == "orthographic" else BEHIND

    def radius(self, theta: np.ndarray) -> np.ndarray:
        if self.kind == "equidistant":
            return theta
        if self.kind == "orthographic":
            return np.sin(theta)
        return 2 * (np.sin if self.kind == "equisolid" else np.tan)(theta / 2)

    def angle(self, radius: np.ndarray) -> np.ndarray:
        if self.kind == "equidistant":
            return radius
        if self.kind == "stereographic":
            return 2 * np.arctan(radius / 2)
        factor = 2 if self.kind == "equisolid" else 1
        return factor * np.arcsin(np.minimum(radius / factor, 1))  # a rounding error above 1 is still the rim


@dataclass(frozen=True)
class Fisheye(Polynomial):
    """Kannala-Brandt fisheye with OpenCV's four coefficients.

    r = theta (1 + k1 theta^2 + k2 theta^4 + k3 theta^6 + k4 theta^8); equidistant with all coefficients zero. Source:
    Kannala & Brandt, "A generic camera model and calibration method", PAMI 2006; OpenCV ``cv2.fisheye``.
    """

    k: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    _POWERS = (3, 5, 7, 9)


@dataclass(frozen=True)
class RadialPolynomial(Polynomial):
    """Polynomial fisheye of the WoodScape data set, r = a1 theta + a2 theta^2 + a3 theta^3 + a4 theta^4.

    The radius is in pixels where ``fx`` is 1 and ``fy`` the aspect ratio. WoodScape counts the principal point from
    the image's middle: ``cx`` = width / 2 - 0.5 + its offset. Source: Yogamani et al., "WoodScape: a multi-task,
    multi-camera fisheye dataset for autonomous driving", ICCV 2019.
    """

    a: tuple[float, float, float, float]
    _POWERS = (1, 2, 3, 4)

    def __post_init__(self):
        super().__post_init__()
        if self.a[0] <= 0:
            raise ValueError(f"camera RadialPolynomial: a1 is {self.a[0]} (expected: above 0)")


@dataclass(frozen=True)
class DoubleSphere(Camera):
    """Double sphere model: two unit spheres ``xi`` apart, then a pinhole shifted by alpha / (1 - alpha).

    It covers more than 180 degrees. With ``alpha`` 0 it is the unified omnidirectional model of Mei & Rives (OpenCV's
    ``cv2.omnidir`` without distortion); with ``xi`` 0 as well, the pinhole. Source: Usenko, Demmel & Cremers, "The
    double sphere camera model", 3DV 2018.
    """

    xi: float
    alpha: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if not _is_number(self.xi) or self.xi <= -1:
            raise ValueError(f"camera DoubleSphere: xi is {reprlib.repr(self.xi)} (expected: a number above -1)")
        if not _is_number(self.alpha) or not 0 <= self.alpha < 1:
            found = reprlib.repr(self.alpha)
            raise ValueError(f"camera DoubleSphere: alpha is {found} (expected: a number from 0 to below 1)")

    @property
    def max_angle(self) -> float:
        # Seen from the second sphere's centre: the image runs to infinity, or starts to fold.
        second = np.arccos(-min(self.alpha, 1 - self.alpha) / max(self.alpha, 1 - self.alpha))
        if self.xi > 1:  # the first sphere, seen from outside, turns its back
            second = min(second, np.arcsin(1 / self.xi))
        # At the limit itself, rounding decides the sign of the denominator in ``radius``.
        return float(second + np.arcsin(np.clip(self.xi * np.sin(second), -1, 1))) - 1e-6

    def radius(self, theta: np.ndarray) -> np.ndarray:
        across, along = np.sin(theta), self.xi + np.cos(theta)
        return across / (self.alpha * np.hypot(across, along) + (1 - self.alpha) * along)

    def angle(self, radius: np.ndarray) -> np.ndarray:
        square, alpha = radius * radius, self.alpha
        root = np.sqrt(np.maximum(1 - (2 * alpha - 1) * square, 0))
        second = np.arctan2(radius * (alpha * root + 1 - alpha), 1 - alpha * alpha * square)
        return second + np.arcsin(np.clip(self.xi * np.sin(second), -1, 1))  # the law of sines


MODELS = {m.__name__: m for m in (Pinhole, Fisheye, ClassicFisheye, RadialPolynomial, DoubleSphere)}


def from_dict(values: object) -> Camera:
    """Build the camera from the values of :meth:`Camera.to_dict`; raise a ValueError where they describe none."""
    if not isinstance(values, dict):
        raise ValueError(f"camera: {reprlib.repr(values)} (expected: a mapping with the fields of a camera)")
    values = dict(values)
    name = values.pop("model", None)
    if not isinstance(name, str) or name not in MODELS:
        raise ValueError(f"camera model: {reprlib.repr(name)} (known: {', '.join(MODELS)}; expected: one of them)")
    expected = [f.name for f in fields(MODELS[name])]
    if set(values) != set(expected):
        found = textwrap.shorten(", ".join(map(str, values)), 200)
        point = "" if all(isinstance(key, str) for key in values) else "; decimals have a point, not a comma"
        raise ValueError(f"camera {name}: fields {found or 'none'} (expected: {', '.join(expected)}{point})")
    arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return MODELS[name](**arguments)
