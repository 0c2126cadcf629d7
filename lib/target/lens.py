"""The target's lens (centre, focal length, distortion) estimated from unlabelled frames.

One fit weighs three kinds of evidence. The image circle, where the overlay shows one, gives the centre and a first
focal length. Edges must become straight, and those along a street's directions perpendicular
(:mod:`lib.target.plumb_line`). A prior of ordinary wide lenses holds where the frames have little evidence; with none
it is the answer, and the confidence is 0. Pixels are assumed square.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lib.camera.models import Fisheye
from lib.errors import InputError
from lib.parallel import evenly_spaced
from lib.target import plumb_line
from lib.target.edges import Edges, collect_edges, shrunk_size
from lib.target.image_circle import ImageCircle, find_image_circle
from lib.target.overlay import Overlay

MAX_FRAMES = 150
"""Images in which edges are searched."""
CAUTION = 2.0
"""Factor on the fit's own error estimate. It is right on rendered streets; real streets have fewer right angles, and
houses that lean the same way in every frame."""
MIN_CONFIDENCE = 0.3
"""Confidence below which the expected lens is the safer answer."""

_SHOWN = 3
_RIM = 1.35  # rad: expected angle at the rim of an image circle
_SIDE = 1.05  # rad: expected angle in the middle of the image's sides, without a circle
_K_DEVIATION = (0.06, 0.015, 0.004, 0.001)  # real lenses from orthographic to stereographic lie within two or three


@dataclass(frozen=True)
class FrameEdges:
    """The edges of one frame, with ``points``, ``kind`` and ``weight`` as in :class:`lib.target.plumb_line.Fit`."""

    path: Path
    points: np.ndarray
    kind: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class LensEstimate:
    """An estimated lens and its uncertainty.

    Attributes:
        camera: Kannala-Brandt fisheye at the frames' size.
        error: expected distance (pixels of the frames; root mean square over the view) between the pixels at which
            this camera and the true one see a ray.
        shape_error: the same after the best rotation of this camera and stretch of the world along its axis. Lines
            leave that stretch open, and right angles settle it less surely. Where the focal length of the source
            camera is a guess as well, that makes up for it, and only this error counts.
        confidence: 1 - ``error`` / (the same of the expected lens); 0: no evidence, 1: no doubt.
        report: the evidence, in sentences.
        shown: frames for :func:`lib.diagnostics.explore.lens_figure`.
    """

    camera: Fisheye
    error: float
    shape_error: float
    confidence: float
    report: str
    shown: tuple[FrameEdges, ...]


def estimate_lens(paths: Sequence[str | Path], overlay: Overlay) -> LensEstimate:
    """Estimate the lens from up to 150 frames, evenly spaced; the same frames give the same lens.

    Args:
        paths: image files of one camera at one size.
        overlay: the camera's overlay, in which no edges are searched.

    Raises:
        InputError: no frames, unreadable ones, frames of another size than the overlay, or nothing but overlay.
    """
    if not len(paths):
        raise InputError("lens: no target frames (expected: at least 1)")
    height, width = overlay.mask.shape
    size = shrunk_size((width, height))
    view = _view(overlay.mask, size)
    if not view.any():
        raise InputError("lens: the overlay covers the whole image (expected: a view of the street)")
    frames = [Path(path) for path in evenly_spaced(paths, MAX_FRAMES)]
    edges = collect_edges(frames, (width, height), view, "lens")
    circle = find_image_circle(overlay.mask, size)
    prior = expected_lens(size, circle)
    prior_covariance = np.diag(prior.deviation**2)
    prior_error = _expected_error(prior.mean, prior_covariance, view)
    scale = width / size[0]
    report = [f"{len(frames)} frame(s), {len(edges.points)} long smooth edges.", _describe(circle, scale)]
    fit = plumb_line.fit_best(edges, prior, view)
    error = np.inf if fit is None else CAUTION * _expected_error(fit.lens, fit.covariance, view)
    if fit is None or error > (1 - MIN_CONFIDENCE) * prior_error:
        report.append("Too little evidence for an estimate: the camera is a guess, an ordinary wide lens.")
        fit, lens, error, confidence = None, prior.mean, prior_error, 0.0
        shape_error = _expected_error(lens, prior_covariance, view, shape_only=True)
    else:
        lens, confidence = fit.lens, 1 - error / prior_error
        shape_error = CAUTION * _expected_error(lens, fit.covariance, view, shape_only=True)
        report.append(fit.summary())
    report.append(
        f"Expected error {error * scale:.1f} px, of which {shape_error * scale:.1f} px in the shape of lines; "
        f"confidence {confidence:.2f}."
    )
    return LensEstimate(
        plumb_line.camera(lens, size).scaled((width, height)),
        error * scale,
        shape_error * scale,
        float(confidence),
        " ".join(report),
        _frames_to_show(frames, edges, fit, scale),
    )


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


def _view(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return where edges belong to the street, ``bool (H, W)``; the rim of the overlay does not."""
    mask = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    rim = round(size[0] / 60)
    return cv2.dilate(mask, np.ones((2 * rim + 1,) * 2, np.uint8)) == 0


def _expected_error(lens: np.ndarray, covariance: np.ndarray, view: np.ndarray, shape_only: bool = False) -> float:
    """Return the expected distance (pixels, root mean square over the view) from the true lens.

    With ``shape_only``, after the best rotation of the camera and stretch of the world along its axis.
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
    if shape_only:
        by_lens = by_lens - by_motion @ np.linalg.lstsq(by_motion, by_lens, rcond=None)[0]
    return float(np.sqrt(2 * np.einsum("ni,nj,ij->n", by_lens, by_lens, covariance).mean()))


def _describe(circle: ImageCircle | None, scale: float) -> str:
    if circle is None:
        return "No image circle in view: the lens is expected centred."
    x, y = ((v + 0.5) * scale - 0.5 for v in (circle.x, circle.y))
    return f"Image circle of radius {circle.radius * scale:.0f} px around ({x:.0f}, {y:.0f})."


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
