"""The field of view of an undistorted camera, estimated from the right angles in its images of streets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.dataset.image_files import read_image
from lib.errors import InputError
from lib.parallel import evenly_spaced
from lib.target import plumb_line
from lib.target.edges import collect_edges, shrunk_size
from lib.target.lens import CAUTION, MAX_FRAMES, MIN_CONFIDENCE

_HALF_FOV_RAD = 0.6  # expected
_TANGENT = (1 / 3, 2 / 15, 17 / 315, 62 / 2835)  # tan(theta) = theta (1 + k1 theta^2 + ...)
_DEVIATION = (0.01, 0.01, 0.35, 1e-3, 1e-3, 1e-3, 1e-3)  # of the plumb line's PARAMETERS, the first two in widths


@dataclass(frozen=True)
class FieldOfView:
    """The horizontal field of view of an undistorted camera.

    Attributes:
        angle_rad: field of view.
        deviation_rad: its expected error, one standard deviation.
        estimated: False where the images had too little evidence and ``angle_rad`` is that of an ordinary camera.
        report: the evidence, in sentences.
    """

    angle_rad: float
    deviation_rad: float
    estimated: bool
    report: str


def estimate_field_of_view(paths: Sequence[str | Path]) -> FieldOfView:
    """Estimate the field of view from up to 150 images, evenly spaced; the same images give the same angle.

    Args:
        paths: image files of one camera; images of another size than the first do not count.

    Raises:
        InputError: no images, or unreadable ones.
    """
    if not len(paths):
        raise InputError("field of view: no source images (expected: at least 1)")
    images = [Path(path) for path in evenly_spaced(paths, MAX_FRAMES)]
    whole = read_image(images[0]).shape[1::-1]
    width, height = shrunk_size(whole)
    view = np.ones((height, width), bool)
    edges = collect_edges(images, whole, view, "field of view", strict=False)
    prior = plumb_line.Prior(
        np.array([(width - 1) / 2, (height - 1) / 2, np.log(width / 2 / np.tan(_HALF_FOV_RAD)), *_TANGENT]),
        np.array(_DEVIATION) * (width, width, 1, 1, 1, 1, 1),
    )
    report = f"{len(images)} image(s), {len(edges.points)} long smooth edges. "
    fit = plumb_line.fit_best(edges, prior, view)
    log_focal, unsure = prior.mean[2], float(prior.deviation[2])
    error = np.inf if fit is None else CAUTION * float(np.sqrt(fit.covariance[2, 2]))
    estimated = error < (1 - MIN_CONFIDENCE) * unsure
    if fit is not None and estimated:
        log_focal, unsure = fit.lens[2], error
        report += fit.summary()
    else:
        report += "Too little evidence for an estimate: the field of view is a guess, that of an ordinary camera."
    half = float(np.arctan(width / 2 / np.exp(log_focal)))
    deviation = unsure * float(np.sin(2 * half))  # d(2 half) / d(log f)
    report += f" Field of view {np.degrees(2 * half):.1f} degrees, give or take {np.degrees(deviation):.1f}."
    return FieldOfView(2 * half, deviation, estimated, report)
