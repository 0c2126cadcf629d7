"""The target's lens (centre, focal length, distortion), and the source's field of view, estimated from their images.

The image circle, where the overlay shows one, gives the centre and a first focal length. Edges must become straight,
and those along a street's directions perpendicular (:mod:`lib.target.plumb_line`). Where the frames have too little
evidence, an ordinary wide lens is the answer, with confidence 0. Pixels are assumed square.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from lib.camera.models import Fisheye
from lib.dataset.image_files import read_image
from lib.errors import InputError
from lib.parallel import evenly_spaced
from lib.target import plumb_line
from lib.target.edges import Edges, collect_edges, shrunk_size
from lib.target.overlay import Overlay

_MAX_FRAMES = 150
_FIT_BOUND = 2.0  # times a fit's standard deviation: 9 of 10 errors lie within, see benchmarks/fisheye_calibration.py
_PRIOR_BOUND = 1.75  # the same of the expected lens, of which real lenses differ more than rendered ones
_MIN_CONFIDENCE = 0.3  # below, the expected lens is the safer answer
_SHOWN = 3
_TRIES = 400
_RIM = 1.35  # rad: expected angle at the rim of an image circle
_SIDE = 1.05  # rad: expected angle in the middle of the image's sides, without a circle
_HALF_FOV_RAD = 0.6  # expected of the source
_TANGENT = (1 / 3, 2 / 15, 17 / 315, 62 / 2835)  # tan(theta) = theta (1 + k1 theta^2 + ...)
_SOURCE_DEVIATION = (0.01, 0.01, 0.35, 1e-3, 1e-3, 1e-3, 1e-3)  # of plumb_line.PARAMETERS, the first two in widths
_K_DEVIATION = (0.06, 0.015, 0.004, 0.001)  # real lenses from orthographic to stereographic lie within two or three


class ImageCircle(NamedTuple):
    """Image circle of a lens, in pixels."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class FrameEdges:
    """The edges of one frame, with ``points``, ``kind`` and ``weight`` as in :class:`lib.target.plumb_line.Fit`."""

    path: Path
    points: np.ndarray
    kind: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class LensEstimate:
    """An estimated lens, and the error within which 9 of 10 lie (pixels of the frames; root mean square over the view).

    The error of shape remains after the best rotation and stretch along the axis, which lines leave open. Only it
    counts where the focal length of the source camera is a guess as well, since that makes up for a stretch.
    """

    camera: Fisheye  # Kannala-Brandt at the frames' size
    error: float
    shape_error: float
    confidence: float  # 1 - error / (the same of the expected lens); 0: no evidence, 1: no doubt
    report: str  # the evidence, in sentences
    shown: tuple[FrameEdges, ...]  # for lib.diagnostics.lens_plot.lens_figure


@dataclass(frozen=True)
class FieldOfView:
    """The horizontal field of view of an undistorted camera."""

    angle_rad: float
    deviation_rad: float  # 9 of 10 errors are meant to lie within, as with a lens
    estimated: bool  # False: too little evidence, the angle is that of an ordinary camera
    report: str  # the evidence, in sentences


def estimate_lens(paths: Sequence[str | Path], overlay: Overlay) -> LensEstimate:
    """Estimate the lens from up to 150 frames, evenly spaced; the same frames give the same lens.

    Raises:
        InputError: no frames, unreadable ones, frames of another size than the overlay, or nothing but overlay.
    """
    if not len(paths):
        raise InputError("lens: no target frames (expected: at least 1)")
    height, width = overlay.mask.shape
    size = shrunk_size((width, height))
    mask = cv2.resize(overlay.mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    rim = np.ones((2 * round(size[0] / 60) + 1,) * 2, np.uint8)  # whose edges are the overlay's
    view = cv2.dilate(mask, rim) == 0
    if not view.any():
        raise InputError("lens: the overlay covers the whole image (expected: a view of the street)")
    frames = [Path(path) for path in evenly_spaced(paths, _MAX_FRAMES)]
    edges = collect_edges(frames, (width, height), view, "lens")
    circle = find_image_circle(overlay.mask, size)
    prior = expected_lens(size, circle)
    scale = width / size[0]
    report = [f"{len(frames)} frame(s){edges.note()}, {len(edges.points)} long smooth edges."]
    if circle is None:
        report.append("No image circle in view: the lens is expected centred.")
    else:
        x, y = ((v + 0.5) * scale - 0.5 for v in (circle.x, circle.y))
        report.append(f"Image circle of radius {circle.radius * scale:.0f} px around ({x:.0f}, {y:.0f}).")
    prior_errors = _PRIOR_BOUND * _expected_errors(prior.mean, np.diag(prior.deviation**2), view)
    fit = plumb_line.fit_best(edges, prior, view)
    errors = prior_errors if fit is None else _FIT_BOUND * _expected_errors(fit.lens, fit.covariance, view)
    if fit is None or errors[0] > (1 - _MIN_CONFIDENCE) * prior_errors[0]:
        fit, lens, errors = None, prior.mean, prior_errors
        report.append("Too little evidence for an estimate: the camera is a guess, an ordinary wide lens.")
    else:
        lens = fit.lens
        report.append(fit.summary())
    error, shape_error = map(float, errors * scale)
    confidence = 1 - float(errors[0] / prior_errors[0])
    report.append(
        f"Error up to {error:.1f} px in 9 of 10 cases, of which {shape_error:.1f} px in the shape of lines; "
        f"confidence {confidence:.2f}."
    )
    camera = plumb_line.camera(lens, size).scaled((width, height))
    shown = _frames_to_show(frames, edges, fit, scale)
    return LensEstimate(camera, error, shape_error, confidence, " ".join(report), shown)


def default_lens(overlay: Overlay) -> Fisheye:
    """Return the lens expected from the overlay's size and image circle, without edges."""
    height, width = overlay.mask.shape
    circle = find_image_circle(overlay.mask, (width, height))
    return plumb_line.camera(expected_lens((width, height), circle).mean, (width, height))


def expected_lens(size: tuple[int, int], circle: ImageCircle | None) -> plumb_line.Prior:
    """Return the prior of a lens for images of ``size`` = (width, height)."""
    width, height = size
    if circle is None:
        centre, focal, off, unsure = ((width - 1) / 2, (height - 1) / 2), width / 2 / _SIDE, 0.03 * width, 0.35
    else:
        centre, focal, off, unsure = (circle.x, circle.y), circle.radius / _RIM, 0.015 * width, 0.2
    return plumb_line.Prior(np.array([*centre, np.log(focal), 0, 0, 0, 0]), np.array([off, off, unsure, *_K_DEVIATION]))


def _expected_errors(lens: np.ndarray, covariance: np.ndarray, view: np.ndarray) -> np.ndarray:
    """Return the expected distances (pixels, root mean square over the view) from the true lens, ``(2,)``.

    The second is after the best rotation of the camera and stretch of the world along its axis.
    """
    pixels = plumb_line.visible_pixels(view)
    seen = plumb_line.rays(lens, pixels)
    nudge, axes = 1e-4, np.eye(3)

    def moved(lens, rays):
        return ((plumb_line.camera(lens, view.shape[::-1]).project(rays) - pixels) / nudge).ravel()

    by_lens = np.stack([moved(lens + nudge * axis, seen) for axis in np.eye(7)], axis=1)
    motions = [seen + nudge * np.cross(axis, seen) for axis in axes] + [seen + nudge * seen * axes[2]]
    by_motion = np.stack([moved(lens, rays) for rays in motions], axis=1)
    finite = np.isfinite(by_lens).all(axis=1) & np.isfinite(by_motion).all(axis=1)
    by_lens, by_motion = by_lens[finite], by_motion[finite]
    by_shape = by_lens - by_motion @ np.linalg.lstsq(by_motion, by_lens, rcond=None)[0]
    return np.array([np.sqrt(2 * np.einsum("ni,nj,ij->n", by, by, covariance).mean()) for by in (by_lens, by_shape)])


def estimate_field_of_view(paths: Sequence[str | Path]) -> FieldOfView:
    """Estimate the field of view from up to 150 images, evenly spaced; the same images give the same angle.

    Images of another size than the first do not count.

    Raises:
        InputError: no images, or unreadable ones.
    """
    if not len(paths):
        raise InputError("field of view: no source images (expected: at least 1)")
    images = [Path(path) for path in evenly_spaced(paths, _MAX_FRAMES)]
    whole = read_image(images[0]).shape[1::-1]
    width, height = shrunk_size(whole)
    view = np.ones((height, width), bool)
    edges = collect_edges(images, whole, view, "field of view", strict=False)
    prior = plumb_line.Prior(
        np.array([(width - 1) / 2, (height - 1) / 2, np.log(width / 2 / np.tan(_HALF_FOV_RAD)), *_TANGENT]),
        np.array(_SOURCE_DEVIATION) * (width, width, 1, 1, 1, 1, 1),
    )
    report = f"{len(images)} image(s){edges.note()}, {len(edges.points)} long smooth edges. "
    fit = plumb_line.fit_best(edges, prior, view)
    log_focal, unsure = prior.mean[2], _PRIOR_BOUND * float(prior.deviation[2])
    error = np.inf if fit is None else _FIT_BOUND * float(np.sqrt(fit.covariance[2, 2]))
    estimated = error < (1 - _MIN_CONFIDENCE) * unsure
    if fit is not None and estimated:
        log_focal, unsure = fit.lens[2], error
        report += fit.summary()
    else:
        report += "Too little evidence for an estimate: the field of view is a guess, that of an ordinary camera."
    half = float(np.arctan(width / 2 / np.exp(log_focal)))
    deviation = unsure * float(np.sin(2 * half))  # d(2 half) / d(log f)
    report += f" Field of view {np.degrees(2 * half):.1f} degrees, give or take {np.degrees(deviation):.1f}."
    return FieldOfView(2 * half, deviation, estimated, report)


def _frames_to_show(paths: list[Path], edges: Edges, fit: plumb_line.Fit | None, scale: float):
    """Return the frames with most edges among the first, middle and last third."""
    counts = np.bincount(edges.frame, minlength=len(paths))
    kind = np.full(len(edges.points), 3) if fit is None else fit.kind
    weight = np.zeros(len(edges.points)) if fit is None else fit.weight
    shown = []
    for part in np.array_split(np.arange(len(paths)), min(_SHOWN, len(paths))):
        index = part[counts[part].argmax()]
        members = edges.frame == index
        points = (edges.points[members] + 0.5) * scale - 0.5
        shown.append(FrameEdges(paths[index], points, kind[members], weight[members]))
    return tuple(shown)


def find_image_circle(mask: np.ndarray, size: tuple[int, int]) -> ImageCircle | None:
    """Find the image circle in images of ``size`` = (width, height); None where none is in view.

    It holds all of the view, and much of the view's outline lies on it: RANSAC (Fischler & Bolles 1981) with a fixed
    seed. The overlay's mask, ``bool (H, W)``, may have any size.
    """
    width, height = size
    mask = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    outlines, _ = cv2.findContours(1 - mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not mask.any() or not outlines:
        return None
    outline = max(outlines, key=len)[:, 0].astype(float)
    outline = outline[((outline > 1) & (outline < (width - 2, height - 2))).all(axis=1)]
    view = np.argwhere(mask[::4, ::4] == 0)[:, ::-1] * 4.0
    rng, tolerance = np.random.default_rng(0), 0.006 * width
    most, inliers = (height - 1) // 2, None  # half the height at least
    for _ in range(_TRIES if len(outline) > 50 else 0):
        *centre, radius = _fit_circle(outline[rng.choice(len(outline), 3, replace=False)])
        if not 0.3 * height < radius < width:
            continue
        on = np.abs(np.hypot(*(outline - centre).T) - radius) < tolerance
        inside = (np.hypot(*(view - centre).T) < radius + 2 * tolerance).mean()
        if inside > 0.995 and on.sum() > most:
            most, inliers = on.sum(), on
    return None if inliers is None else _fit_circle(outline[inliers])


def _fit_circle(points: np.ndarray) -> ImageCircle:
    """Fit a circle to ``(N, 2)`` points by least squares: x^2 + y^2 = 2 a x + 2 b y + c (Kasa 1976)."""
    origin = points.mean(axis=0)
    centred = points - origin
    columns = np.column_stack([2 * centred, np.ones(len(centred))])
    a, b, c = np.linalg.lstsq(columns, (centred**2).sum(axis=1), rcond=None)[0]
    return ImageCircle(origin[0] + a, origin[1] + b, float(np.sqrt(max(c + a * a + b * b, 0))))
