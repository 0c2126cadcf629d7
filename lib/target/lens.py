"""The target's lens, from its own frames and no labels (centre, focal length, distortion), and the source's view.

Three kinds of evidence are weighed in one fit. The image circle, where the lens shows its rim, gives the centre and
a first idea of the focal length. Edges must become straight (:mod:`lib.target.plumb_line`), and those that follow
the street must meet at right angles. What is known of lenses in general holds where the frames say little: with
nothing to go by the answer is that ordinary wide lens, and the confidence says so. Pixels are taken to be square.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from lib.camera import remap
from lib.camera.models import Fisheye, Pinhole
from lib.dataset.image_files import read_image
from lib.errors import InputError
from lib.parallel import in_threads
from lib.target import edges, image_circle, plumb_line
from lib.target.overlay import Overlay

_FRAMES = 150
_WIDTH = 960  # larger frames are shrunk: edges are blurred over more than a pixel anyway
_SHORTEST = 0.03  # of the width (and 16 pixels at least): what an edge must measure to tell its direction
_MOST = 150  # edges per frame
_SHOWN = 3

_RIM = 1.35  # rad: the angle at which the rim of an image circle is expected
_SIDE = 1.05  # rad: the angle at which, without a circle, the middle of the image's sides is expected
_K_DEVIATION = (0.06, 0.015, 0.004, 0.001)  # real lenses from orthographic to stereographic lie within two or three
_FEWEST = 10  # edges
_START_FRAMES = 30
_STARTS = (-0.5, -0.25, 0.0, 0.25, 0.5)  # log focal length, from the expected one
_CAUTION = 2.0
"""The fit's own error estimate is multiplied by this. On rendered streets it is right as it is; real streets have
fewer right angles, and houses that lean the same way in every frame."""
_THIN = 0.3  # confidence below which the expected lens is the safer answer
_HALF_VIEW = 0.6  # rad: half the horizontal field of view that is expected of an undistorted camera
_TANGENT = (1 / 3, 2 / 15, 17 / 315, 62 / 2835)  # tan(theta) = theta (1 + k1 theta^2 + ...)
_PINHOLE_DEVIATION = (0.01, 0.01, 0.35, 1e-3, 1e-3, 1e-3, 1e-3)  # the first two in widths


@dataclass(frozen=True)
class Shown:
    """A frame to look at, and its edges as :class:`lib.target.plumb_line.Fit` describes them."""

    path: Path
    points: np.ndarray
    kind: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class LensEstimate:
    """A camera and how far to trust it.

    Attributes:
        camera: Kannala-Brandt fisheye at the frames' size.
        error: expected distance (pixels of the frames; root mean square over what the camera sees) between where
            this camera and the true one see a ray.
        shape_error: the same once this camera may be turned, and the world stretched along its axis, to fit best.
            Straight lines leave that stretch open, and right angles settle it less surely; where the focal length
            of the source camera is a guess as well, it makes up for it, and only this error counts.
        confidence: 1 - ``error`` / (the same of a lens guessed without looking at edges). 0: the frames said
            nothing and the camera is the guess; 1: they left no doubt.
        report: what evidence there was, in sentences.
        shown: frames for :meth:`figure`.
    """

    camera: Fisheye
    error: float
    shape_error: float
    confidence: float
    report: str
    shown: tuple[Shown, ...]

    def figure(self):
        """Frames beside their undistorted version, edges in the colour of the direction they were taken to follow:
        down red, along the street green, across it blue, any other yellow; bends without a say grey.

        Returns:
            a matplotlib figure.
        """
        import matplotlib.pyplot as plt

        flat = _flat(self.camera)
        table = remap.build_table(flat, self.camera)
        rows = max(len(self.shown), 1)
        figure, axes = plt.subplots(rows, 2, figsize=(14, 4 * rows), squeeze=False, layout="constrained")
        axes[0, 0].set_title("frame")
        axes[0, 1].set_title(f"undistorted (confidence {self.confidence:.2f})")
        for (left, right), shown in zip(axes, self.shown, strict=False):
            image = read_image(shown.path)
            left.imshow(image)
            right.imshow(remap.remap_image(image, table))
            there = flat.project(self.camera.unproject(shown.points))
            for bent, straight, kind, weight in zip(shown.points, there, shown.kind, shown.weight, strict=True):
                colour = "rgby"[kind].replace("y", "yellow") if weight > 0.25 else "grey"
                left.plot(*bent.T, color=colour, linewidth=0.8)
                if np.isfinite(straight).all():
                    right.plot(*straight[[0, -1]].T, color=colour, linewidth=0.8)
            right.set(xlim=(-0.5, flat.width - 0.5), ylim=(flat.height - 0.5, -0.5))
        for axis in axes.flat:
            axis.set_axis_off()
        return figure


def _flat(camera: Fisheye) -> Pinhole:
    """A pinhole camera of the same size that shows the middle of the view, at most 110 degrees of it."""
    side = camera.unproject([[0.0, camera.cy], [camera.width - 1.0, camera.cy]])
    angles = np.arctan2(np.hypot(side[:, 0], side[:, 1]), side[:, 2])
    half = float(np.clip(np.nanmin(angles) if np.isfinite(angles).any() else 9, 0.2, np.radians(55)))
    return Pinhole.from_fov((camera.width, camera.height), 2 * half)


def estimate_lens(paths: Sequence[str | Path], background: Overlay) -> LensEstimate:
    """Find the lens that took the frames.

    Looks at up to 150 frames, evenly spread; nothing is left to chance, the same frames give the same camera.

    Args:
        paths: image files of one camera at one size.
        background: its static surroundings, where no edges are looked for.

    Raises:
        InputError: no frames, unreadable ones, frames of another size than the background, or nothing but
            background.
    """
    if not len(paths):
        raise InputError("calibration: no target frames, at least 1 is needed.")
    height, width = background.mask.shape
    size = _shrunk((width, height))
    view = _view(background.mask, size)
    if not view.any():
        raise InputError("calibration: the static surroundings cover the whole image, no street is left to look at.")
    chosen = _some(paths)
    lines = _lines(chosen, (width, height), view, "calibration")
    rim = image_circle.find_image_circle(background.mask, size)
    expected = prior(size, rim)
    doubt = _doubt(expected.mean, np.diag(expected.deviation**2), view)
    report = [f"{len(chosen)} frame(s), {len(lines.points)} long smooth edges.", _about(rim, width / size[0])]
    best = _best(lines, expected, view)
    error, shape_error = (
        None if best is None else _CAUTION * _doubt(best.lens, best.covariance, view, only) for only in (False, True)
    )
    if best is None or error > (1 - _THIN) * doubt:
        report.append("Too little to fit a lens to: the camera is a guess, an ordinary wide lens.")
        best, lens, error, confidence = None, expected.mean, doubt, 0.0
        shape_error = _doubt(expected.mean, np.diag(expected.deviation**2), view, True)
    else:
        lens, confidence = best.lens, 1 - error / doubt
        report.append(_evidence(best))
    scale = width / size[0]
    report.append(
        f"Expected error {error * scale:.1f} px, of which {shape_error * scale:.1f} px in how lines bend; "
        f"confidence {confidence:.2f}."
    )
    return LensEstimate(
        _camera(lens, size).scaled((width, height)),
        error * scale,
        shape_error * scale,
        float(confidence),
        " ".join(report),
        _to_show(chosen, lines, best, scale),
    )


def default_lens(background: Overlay) -> Fisheye:
    """The camera that is expected before any edge is looked at, at the background's size."""
    height, width = background.mask.shape
    return _camera(
        prior((width, height), image_circle.find_image_circle(background.mask, (width, height))).mean, (width, height)
    )


@dataclass(frozen=True)
class FieldOfView:
    """How much an undistorted camera sees.

    Attributes:
        angle: horizontal field of view (rad).
        deviation: its expected error (rad, one standard deviation).
        fitted: False where the images said too little and ``angle`` is what is expected of any camera.
        report: what evidence there was, in sentences.
    """

    angle: float
    deviation: float
    fitted: bool
    report: str


def estimate_field_of_view(paths: Sequence[str | Path]) -> FieldOfView:
    """Find the field of view of the undistorted camera that took street images, by its right angles.

    Looks at up to 150 images, evenly spread, of the first one's size; nothing is left to chance.

    Args:
        paths: image files of one camera.

    Raises:
        InputError: no images, or unreadable ones.
    """
    if not len(paths):
        raise InputError("field of view: no source images, at least 1 is needed.")
    chosen = _some(paths)
    whole = read_image(chosen[0]).shape[1::-1]
    width, height = _shrunk(whole)
    view = np.ones((height, width), bool)
    lines = _lines(chosen, whole, view, "field of view", strict=False)
    expected = plumb_line.Prior(
        np.array([(width - 1) / 2, (height - 1) / 2, np.log(width / 2 / np.tan(_HALF_VIEW)), *_TANGENT]),
        np.array(_PINHOLE_DEVIATION) * (width, width, 1, 1, 1, 1, 1),
    )
    best = _best(lines, expected, view)
    unsure = expected.deviation[2] if best is None else _CAUTION * float(np.sqrt(best.covariance[2, 2]))
    fitted = best is not None and unsure < (1 - _THIN) * expected.deviation[2]
    log_focal = best.lens[2] if fitted else expected.mean[2]
    unsure = unsure if fitted else float(expected.deviation[2])
    half = float(np.arctan(width / 2 / np.exp(log_focal)))
    deviation = unsure * float(np.sin(2 * half))  # d(2 half) / d(log f)
    report = f"{len(chosen)} image(s), {len(lines.points)} long smooth edges. "
    too_little = "Too little to tell the field of view: it is a guess, that of an ordinary camera."
    report += _evidence(best) if fitted else too_little
    report += f" The source sees {np.degrees(2 * half):.1f} degrees across, give or take {np.degrees(deviation):.1f}."
    return FieldOfView(2 * half, deviation, fitted, report)


def _some(paths: Sequence[str | Path]) -> list[Path]:
    return [Path(paths[i]) for i in np.unique(np.linspace(0, len(paths) - 1, _FRAMES).round().astype(int))]


def _shrunk(size: tuple[int, int]) -> tuple[int, int]:
    width = min(size[0], _WIDTH)
    return width, round(size[1] * width / size[0])


def _lines(
    paths: list[Path], size: tuple[int, int], view: np.ndarray, name: str, strict: bool = True
) -> plumb_line.Edges:
    """The edges in ``view`` of all images of ``size``; with ``strict`` no other size is allowed."""
    found = in_threads(lambda path: _edges(path, size, view, strict), paths, name)
    return plumb_line.Edges(np.concatenate(found), np.repeat(np.arange(len(found)), [len(one) for one in found]))


def _edges(path: Path, frame_size: tuple[int, int], view: np.ndarray, strict: bool) -> np.ndarray:
    image, size = read_image(path), view.shape[::-1]
    if image.shape[1::-1] != frame_size:
        if not strict:
            return np.empty((0, edges.POINTS, 2))
        found, wanted = ("x".join(map(str, s)) for s in (image.shape[1::-1], frame_size))
        raise InputError(f"{path}: {found} px, but the background is {wanted}. The frames must be of one camera.")
    if size != frame_size:
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return edges.find_edges(image, view, max(_SHORTEST * size[0], 16), _MOST)


def _view(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``bool (H, W)``: where edges belong to the street; the rim of the surroundings does not."""
    mask = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    rim = round(size[0] / 60)
    return cv2.dilate(mask, np.ones((2 * rim + 1,) * 2, np.uint8)) == 0


def prior(size: tuple[int, int], rim: image_circle.ImageCircle | None) -> plumb_line.Prior:
    """What is expected of a lens before any edge is looked at, for images of ``size`` = (width, height)."""
    width, height = size
    if rim is None:
        centre, focal, off, unsure = ((width - 1) / 2, (height - 1) / 2), width / 2 / _SIDE, 0.03 * width, 0.35
    else:
        centre, focal, off, unsure = (rim.x, rim.y), rim.radius / _RIM, 0.015 * width, 0.2
    return plumb_line.Prior(np.array([*centre, np.log(focal), 0, 0, 0, 0]), np.array([off, off, unsure, *_K_DEVIATION]))


def _best(lines: plumb_line.Edges, expected: plumb_line.Prior, view: np.ndarray) -> plumb_line.Fit | None:
    """The best fit from several focal lengths; None where no edges are, or no lens suits them."""
    if len(lines.points) < _FEWEST:
        return None
    used, frame = np.unique(lines.frame, return_inverse=True)
    lines = replace(lines, frame=frame)
    # Finding the right start needs fewer frames than the last digits do.
    few = frame % max(1, round(len(used) / _START_FRAMES)) == 0
    some = plumb_line.Edges(lines.points[few], np.unique(frame[few], return_inverse=True)[1])
    starts = [plumb_line.fit(some, expected.mean + step * np.eye(7)[2], expected) for step in _STARTS]
    starts.sort(key=_cost)
    fits = [plumb_line.fit(lines, start.lens, expected) for start in starts[:3]]
    # With a good lens, the streets' directions are guessed better than they were at first.
    fits.append(plumb_line.fit(lines, min(fits, key=_cost).lens, expected))
    return min((one for one in fits if _sees(one.lens, view)), key=_cost, default=None)


def _cost(one: plumb_line.Fit) -> float:
    return one.cost


def _sees(lens: np.ndarray, view: np.ndarray) -> bool:
    """Whether every visible pixel is within the lens's reach."""
    return bool(np.isfinite(_camera(lens, view.shape[::-1]).unproject(_visible(view))).all())


def _visible(view: np.ndarray) -> np.ndarray:
    """Some 2000 pixels spread over the view, ``float64 (N, 2)``."""
    pixels = np.argwhere(view)[:, ::-1].astype(float)
    return pixels[:: max(1, len(pixels) // 2000)]


def _camera(lens: np.ndarray, size: tuple[int, int]) -> Fisheye:
    cx, cy, log_focal, *k = map(float, lens)
    focal = float(np.exp(log_focal))
    return Fisheye(int(size[0]), int(size[1]), focal, focal, cx, cy, tuple(k))


def _doubt(lens: np.ndarray, covariance: np.ndarray, view: np.ndarray, bend_only: bool = False) -> float:
    """Root mean square distance (pixels) over the view between where the lens sees a ray and where it may be.

    With ``bend_only``, after the turn of the camera and the stretch of the world along its axis that make it least.
    """
    pixels = _visible(view)
    seen = plumb_line.rays(lens, pixels)
    nudge, axes = 1e-4, np.eye(3)

    def moved(lens, rays):
        return ((_camera(lens, view.shape[::-1]).project(rays) - pixels) / nudge).ravel()

    by_lens = np.stack([moved(lens + nudge * one, seen) for one in np.eye(7)], axis=1)
    ways = [seen + nudge * np.cross(axis, seen) for axis in axes] + [seen + nudge * seen * axes[2]]
    by_way = np.stack([moved(lens, rays) for rays in ways], axis=1)
    sound = np.isfinite(by_lens).all(axis=1) & np.isfinite(by_way).all(axis=1)
    by_lens, by_way = by_lens[sound], by_way[sound]
    if bend_only:
        by_lens = by_lens - by_way @ np.linalg.lstsq(by_way, by_lens, rcond=None)[0]
    return float(np.sqrt(2 * np.einsum("ni,nj,ij->n", by_lens, by_lens, covariance).mean()))


def _about(rim: image_circle.ImageCircle | None, scale: float) -> str:
    if rim is None:
        return "No image circle in view: the lens is expected centred."
    x, y = ((v + 0.5) * scale - 0.5 for v in (rim.x, rim.y))
    return f"Image circle of radius {rim.radius * scale:.0f} px around ({x:.0f}, {y:.0f})."


def _evidence(best: plumb_line.Fit) -> str:
    held = best.weight > 0.25
    down, along, across, other = np.bincount(best.kind[held], minlength=4)
    off = np.median(best.deviation[held]) if held.any() else np.nan
    return (
        f"{held.sum()} edges straightened to {off:.2f} px (median): {down} upright, {along} along the street, "
        f"{across} across it, {other} of any direction; {(~held).sum()} set aside as bent."
    )


def _to_show(
    paths: list[Path], lines: plumb_line.Edges, best: plumb_line.Fit | None, scale: float
) -> tuple[Shown, ...]:
    """The frames with most edges among the first, middle and last third."""
    counts = np.bincount(lines.frame, minlength=len(paths))
    kind = np.full(len(lines.points), 3) if best is None else best.kind
    weight = np.zeros(len(lines.points)) if best is None else best.weight
    shown = []
    for part in np.array_split(np.arange(len(paths)), min(_SHOWN, len(paths))):
        index = part[counts[part].argmax()]
        own = lines.frame == index
        points = (lines.points[own] + 0.5) * scale - 0.5
        shown.append(Shown(paths[index], points, kind[own], weight[own]))
    return tuple(shown)
