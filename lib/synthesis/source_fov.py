"""Choice of the source's horizontal field of view: a range from which each rendered image draws its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.camera import models
from lib.target import field_of_view

MAX_FILL_FOV_RAD = np.radians(120)
"""Widest target field of view that the source is stretched to cover. Synthetic lenses carry no scale, so coverage
decides."""
_SPREAD = (0.93, 1.85)
"""Range of the source's field of view as multiples of its estimate: objects differ in size between data sets."""


@dataclass(frozen=True)
class SourceFov:
    """Least and largest horizontal field of view of the source; the evidence, where the range was not given."""

    range_deg: tuple[float, float]
    report: str = ""

    @property
    def range_rad(self) -> tuple[float, float]:
        least, largest = np.radians(self.range_deg)
        return float(least), float(largest)


def choose_source_fov(
    paths: Sequence[str | Path], target_fov: float, given_deg: Sequence[float] | None = None
) -> SourceFov:
    """Choose the range of the source's horizontal field of view, or return the given one.

    The range surrounds the estimate from the source images. It moves up until its upper end covers the target's field
    of view ``target_fov`` (rad), at most :data:`MAX_FILL_FOV_RAD`.
    """
    if given_deg is not None:
        return SourceFov((given_deg[0], given_deg[1]))
    estimate = field_of_view.estimate_field_of_view(paths)
    middle = max(estimate.angle_rad, min(target_fov, MAX_FILL_FOV_RAD) / _SPREAD[1])
    least, largest = (round(float(np.degrees(factor * middle)), 2) for factor in _SPREAD)
    report = f"{estimate.report} Rendered images draw the source's field of view from {least:.0f} to {largest:.0f}."
    return SourceFov((least, largest), report)


def horizontal_fov(lens: models.Camera, mask: np.ndarray) -> float:
    """Return the horizontal field of view (rad) of an undistorted camera that covers the lens's middle rows.

    It is 0 where the overlay's mask ``bool (H, W)``, of the lens's size, covers these rows.
    """
    rows, columns = np.nonzero(~mask)
    middle = abs(rows - lens.cy) < len(mask) / 20
    if not middle.any():
        return 0.0
    x, _, z = lens.unproject(np.stack([columns[middle], rows[middle]], axis=1).astype(float)).T
    return 2 * float(np.nanpercentile(np.arctan2(abs(x), z), 99))
