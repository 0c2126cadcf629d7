"""Camera models: pinhole, four fisheye families and the double sphere.

Cameras look along +z with x to the right and y down; pixel centres are at integer coordinates, as in OpenCV.
Rays and pixels outside a model's valid domain become NaN, so a chain of calls needs one test with ``numpy.isfinite``.

In the formulas ``r`` is the distance from the principal point in focal lengths, ``theta`` the ray's angle to the axis.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lib.camera.radial import BEHIND, Camera, Polynomial
from lib.errors import InputError


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
            raise ValueError(f"camera ClassicFisheye: kind is {self.kind!r} (known: {', '.join(self.KINDS)})")

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


def _four_numbers(camera: Camera, field: str) -> None:
    """Turn a field of four numbers into a tuple of floats; raise a ValueError where it holds anything else."""
    given = getattr(camera, field)
    try:
        values = tuple(map(float, given))
    except (TypeError, ValueError):
        values = ()
    if len(values) != 4 or not all(map(isfinite, values)):
        raise ValueError(f"camera {type(camera).__name__}: {field} is {given!r} (expected: four numbers)")
    object.__setattr__(camera, field, values)


@dataclass(frozen=True)
class Fisheye(Polynomial):
    """Kannala-Brandt fisheye with OpenCV's four coefficients.

    r = theta (1 + k1 theta^2 + k2 theta^4 + k3 theta^6 + k4 theta^8); equidistant with all coefficients zero. Source:
    Kannala & Brandt, "A generic camera model and calibration method", PAMI 2006; OpenCV ``cv2.fisheye``.
    """

    k: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    def __post_init__(self):
        super().__post_init__()
        _four_numbers(self, "k")

    @property
    def _coefficients(self) -> np.ndarray:
        coefficients = np.zeros(10)
        coefficients[1], coefficients[3::2] = 1.0, self.k
        return coefficients


@dataclass(frozen=True)
class RadialPolynomial(Polynomial):
    """Polynomial fisheye of the WoodScape data set, r = a1 theta + a2 theta^2 + a3 theta^3 + a4 theta^4.

    The radius is in pixels where ``fx`` is 1 and ``fy`` the aspect ratio. WoodScape counts the principal point from
    the image's middle: ``cx`` = width / 2 - 0.5 + its offset. Source: Yogamani et al., "WoodScape: a multi-task,
    multi-camera fisheye dataset for autonomous driving", ICCV 2019.
    """

    a: tuple[float, float, float, float]

    def __post_init__(self):
        super().__post_init__()
        _four_numbers(self, "a")
        if self.a[0] <= 0:
            raise ValueError(f"camera RadialPolynomial: a1 is {self.a[0]} (expected: above 0)")

    @property
    def _coefficients(self) -> np.ndarray:
        return np.array([0.0, *self.a])


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
        if not isinstance(self.xi, Real) or not -1 < self.xi < np.inf:
            raise ValueError(f"camera DoubleSphere: xi is {self.xi!r} (expected: a number above -1)")
        if not isinstance(self.alpha, Real) or not 0 <= self.alpha < 1:
            raise ValueError(f"camera DoubleSphere: alpha is {self.alpha!r} (expected: a number from 0 to below 1)")

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


def from_dict(values: dict) -> Camera:
    """Build the camera from the values of :meth:`Camera.to_dict`.

    Raises:
        ValueError: unknown model, or fields missing, too many or out of range.
    """
    values = dict(values)
    name = values.pop("model", None)
    if name not in MODELS:
        raise ValueError(f"camera model: {name!r} (known: {', '.join(MODELS)})")
    expected = [f.name for f in fields(MODELS[name])]
    if sorted(values) != sorted(expected):
        raise ValueError(f"camera {name}: fields {sorted(values)} (expected: {sorted(expected)})")
    arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return MODELS[name](**arguments)


def from_yaml(path: str | Path) -> Camera:
    """Read the camera in a file that holds the values of :meth:`Camera.to_dict`.

    Raises:
        InputError: no such file, or no camera in it.
    """
    try:
        return from_dict(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError(f"{path}: not found (expected: a YAML file with one camera)") from None
    except (OSError, TypeError, ValueError, yaml.YAMLError) as error:
        found = " ".join(str(error).split())  # YAML's own messages run over several lines
        raise InputError(f"{path}: {found} (expected: the fields of one camera)") from None
