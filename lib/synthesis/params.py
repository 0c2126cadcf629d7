"""The random parameters of one transform."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields

import numpy as np

MOTION = ("yaw", "pitch", "roll", "right", "down", "forward")
"""Fields that move the target camera."""


def _drawn(least: float, largest: float):
    return field(metadata={"range": (least, largest)})


@dataclass(frozen=True)
class AugmentParams:
    """The random parameters of one transform, each with its range."""

    fov: float = _drawn(0.0, 1.0)  # place in the range of the source's field of view
    zoom: float = _drawn(0.0, 1.0)  # place in the range of the target's focal length
    k1_offset: float = _drawn(-0.02, 0.02)  # added to the first distortion coefficient of an estimated lens
    yaw: float = _drawn(-0.05, 0.05)  # rotation of the target camera (rad)
    pitch: float = _drawn(-0.05, 0.05)
    roll: float = _drawn(-0.05, 0.05)
    right: float = _drawn(-0.05, 0.05)  # translation of the target camera, in units of the distance to the street
    down: float = _drawn(-0.05, 0.05)
    forward: float = _drawn(-0.1, 0.1)
    frame: float = _drawn(0.0, 1.0)  # target frame whose appearance the image takes, as a fraction of their number
    blur: float = _drawn(0.0, 0.8)  # standard deviation of a Gaussian blur (pixels)
    noise: float = _drawn(0.0, 1.5)  # standard deviation, in units of the noise in the target's overlay
    jpeg: float = _drawn(30.0, 130.0)  # JPEG quality; above 100, no compression
    vignette: float = _drawn(0.0, 0.15)  # darkening of the corners (0-1)
    noise_seed: float = _drawn(0.0, 1.0)  # which noise
    overlay: float = _drawn(0.0, 1.0)  # which of several overlays

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


RANGES: dict[str, tuple[float, float]] = {f.name: f.metadata["range"] for f in fields(AugmentParams)}
"""Range of each field of :class:`AugmentParams`; values are drawn uniformly."""
