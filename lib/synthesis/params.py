"""The random parameters of one transform."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

import numpy as np

RANGES = {
    "fov": (0.0, 1.0),
    "zoom": (0.0, 1.0),
    "k1_offset": (-0.02, 0.02),
    "yaw": (-0.05, 0.05),
    "pitch": (-0.05, 0.05),
    "roll": (-0.05, 0.05),
    "right": (-0.05, 0.05),
    "down": (-0.05, 0.05),
    "forward": (-0.1, 0.1),
    "frame": (0.0, 1.0),
    "blur": (0.0, 0.8),
    "noise": (0.0, 1.5),
    "jpeg": (30.0, 130.0),
    "vignette": (0.0, 0.15),
    "noise_seed": (0.0, 1.0),
    "overlay": (0.0, 1.0),
}
"""Range of each field of :class:`AugmentParams`; values are drawn uniformly."""

MOTION = ("yaw", "pitch", "roll", "right", "down", "forward")
"""Fields that move the target camera."""


@dataclass(frozen=True)
class AugmentParams:
    """The random parameters of one transform.

    Attributes:
        fov: place (0-1) in the range of the source's field of view.
        zoom: place (0-1) in the range of the target's focal length.
        k1_offset: added to the first distortion coefficient of an estimated lens.
        yaw, pitch, roll: rotation of the target camera (rad).
        right, down, forward: translation of the target camera, in units of the distance to the street.
        frame: target frame whose appearance the image takes, as a fraction of their number.
        blur: standard deviation of a Gaussian blur (pixels).
        noise: standard deviation of the noise, in units of the noise in the target's overlay.
        jpeg: JPEG quality; above 100, no compression.
        vignette: darkening of the corners (0-1).
        noise_seed: which noise (0-1).
        overlay: which of several overlays (0-1).
    """

    fov: float
    zoom: float
    k1_offset: float
    yaw: float
    pitch: float
    roll: float
    right: float
    down: float
    forward: float
    frame: float
    blur: float
    noise: float
    jpeg: float
    vignette: float
    noise_seed: float
    overlay: float

    @classmethod
    def sample(cls, rng: np.random.Generator) -> AugmentParams:
        """Draw every field uniformly from its range."""
        return cls(**{name: float(rng.uniform(*limits)) for name, limits in RANGES.items()})

    @classmethod
    def neutral(cls, **changed: float) -> AugmentParams:
        """Return parameters without motion, blur, noise or compression, except for the fields in ``changed``."""
        still = dict.fromkeys(RANGES, 0.0) | {"fov": 0.5, "zoom": 0.5, "jpeg": 101.0}
        return cls(**still | changed)

    def to_row(self) -> dict[str, float]:
        """Return the fields as table columns, rounded to six decimals."""
        return {name: round(value, 6) for name, value in asdict(self).items()}


assert [field.name for field in fields(AugmentParams)] == list(RANGES)
