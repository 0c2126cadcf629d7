"""The target camera estimated from its own frames: overlays, lens, appearance, and the source's field of view."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.camera.models import Camera, Pinhole
from lib.dataset import image_files
from lib.parallel import evenly_spaced
from lib.synthesis.given_cameras import covered_share
from lib.synthesis.params import AugmentParams
from lib.synthesis.target_camera import TargetCamera, random_cameras
from lib.target import appearance
from lib.target.lens import LensEstimate, estimate_field_of_view, estimate_lens
from lib.target.overlay import Overlay
from lib.target.overlay_groups import estimate_overlays, match_overlay

MAX_FILL_FOV_RAD = np.radians(120)
"""Widest target field of view that the source is stretched to cover. Synthetic lenses carry no scale, so coverage
decides."""
_SPREAD = (0.93, 1.85)  # multiples of the estimated field of view: objects differ in size between data sets
_APPEARANCE_FRAMES = 64


@dataclass(frozen=True)
class SourceFov:
    """Range of the source's horizontal field of view (degrees); the evidence, where it was not given."""

    range_deg: tuple[float, float]
    report: str = ""

    @property
    def range_rad(self) -> tuple[float, float]:
        least, largest = np.radians(self.range_deg).tolist()
        return least, largest


@dataclass(frozen=True)
class TargetEstimate:
    """A target camera and the evidence for it, where lens and source's field of view were estimated.

    ``origin`` of the lens: ``estimated``, ``given``, ``fixed``, ``none``, or ``random`` for each image. A lens of
    confidence 0 is not used. ``covered``: least and largest share of the target's middle that the source covers without
    mirror images, for an estimated or given lens.
    """

    camera: TargetCamera
    origin: str
    lens: LensEstimate | None = None
    source_fov: SourceFov | None = None
    covered: tuple[float, float] | None = None

    def notes(self) -> dict:
        """Return what ``camera.yaml`` says beside the camera."""
        evidence = {"report": self.lens, "source_report": self.source_fov}
        return {"lens": self.origin} | {name: found.report for name, found in evidence.items() if found}

    def results(self) -> dict:
        """Return plain values for ``run.yaml``."""
        results: dict = {}
        if self.camera.more_overlays:
            results["overlay_shares"] = [round(share, 3) for share in self.camera.overlay_shares]
        if self.lens:
            results["lens_confidence"] = round(self.lens.confidence, 3)
        if self.source_fov:
            results["source_fov_deg"] = list(self.source_fov.range_deg)
        if self.covered:
            results["source_covers"] = [round(share, 3) for share in self.covered]
        return results

    def report(self) -> str:
        """Return the evidence in lines of text."""
        lines = []
        if self.camera.more_overlays:
            shares = ", ".join(f"{share:.0%}" for share in self.camera.overlay_shares)
            lines.append(f"overlay: {len(self.camera.overlays)} kinds, in {shares} of the frames")
        if self.lens:
            lines.append(f"lens: {self.lens.report}")
        if self.source_fov and self.source_fov.report:
            lines.append(f"source: {self.source_fov.report}")
        if self.covered:
            least, largest = (f"{share:.0%}" for share in self.covered)
            lines.append(
                f"coverage: the source covers {least if least == largest else f'{least} to {largest}'} of the target's "
                "middle (up to 60° from its axis) without mirror images"
            )
        return "\n".join(lines)


def estimate_target(
    frames: Sequence[Path],
    sources: Sequence[Path],
    *,
    lens: str = "estimated",
    cameras: tuple[Camera, Camera] | None = None,
    source_fov_deg: Sequence[float] | None = None,
    appearance: str = "statistics",
    motion: bool = True,
    mirror: bool = True,
) -> TargetEstimate:
    """Estimate the target camera from image files of target and source.

    ``cameras``: known source and target camera. The others as the fields of
    :class:`lib.stages.augment.AugmentOptions`.

    Raises:
        InputError: too few frames, or frames of different sizes.
    """
    groups = estimate_overlays(frames)
    known = cameras or _assumed_cameras(lens, sources[0], frames[0])
    source, target = known or (None, None)
    settings: dict = {"appearance": appearance, "motion": motion, "mirror": mirror}
    estimate = fov = None
    origin = ("given" if cameras else lens) if known else "random"
    if lens == "estimated" and not known:
        estimate = estimate_lens(groups[0].paths, groups[0].overlay)  # other overlays may mean another lens
        if estimate.confidence > 0:
            origin, target = "estimated", estimate.camera
            fov = choose_source_fov(sources, horizontal_fov(target, groups[0].overlay.mask), source_fov_deg)
            settings["source_fov"] = fov.range_rad
    overlays = tuple(group.overlay for group in groups)
    settings |= {"more_overlays": overlays[1:], "overlay_shares": tuple(group.share for group in groups)}
    statistics, thumbnails, settings["frame_overlays"] = _appearance_of(frames, overlays)
    camera = TargetCamera(overlays[0], target, source, statistics, thumbnails, **settings)
    covered = _covered(camera, image_files.image_size(sources[0])) if origin in ("estimated", "given") else None
    return TargetEstimate(camera, origin, estimate, fov, covered)


def choose_source_fov(
    paths: Sequence[str | Path], target_fov: float, given_deg: Sequence[float] | None = None
) -> SourceFov:
    """Choose the range of the source's horizontal field of view, or return the given one.

    The range surrounds the estimate from the source images. It moves up until its upper end covers the target's field
    of view ``target_fov`` (rad), at most :data:`MAX_FILL_FOV_RAD`.
    """
    if given_deg is not None:
        return SourceFov((given_deg[0], given_deg[1]))
    estimate = estimate_field_of_view(paths)
    middle = max(estimate.angle_rad, min(target_fov, MAX_FILL_FOV_RAD) / _SPREAD[1])
    least, largest = (round(float(np.degrees(factor * middle)), 2) for factor in _SPREAD)
    report = f"{estimate.report} Rendered images draw the source's field of view from {least:.0f} to {largest:.0f}."
    return SourceFov((least, largest), report)


def horizontal_fov(lens: Camera, mask: np.ndarray) -> float:
    """Return the horizontal field of view (rad) of an undistorted camera that covers the lens's middle rows.

    It is 0 where the overlay's mask ``bool (H, W)``, of the lens's size, covers these rows.
    """
    rows, columns = np.nonzero(~mask)
    middle = abs(rows - lens.cy) < len(mask) / 20
    if not middle.any():
        return 0.0
    x, _, z = lens.unproject(np.stack([columns[middle], rows[middle]], axis=1).astype(float)).T
    return 2 * float(np.nanpercentile(np.arctan2(abs(x), z), 99))


def _covered(camera: TargetCamera, source_size: tuple[int, int]) -> tuple[float, float]:
    """Return the share of the target's middle that the source covers, at both ends of its field of view."""
    narrow, wide = (camera.cameras(AugmentParams.neutral(fov=end), source_size) for end in (0.0, 1.0))
    return covered_share(*narrow), covered_share(*wide)


def _appearance_of(frames: Sequence[Path], overlays: Sequence[Overlay]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return colour statistics, thumbnails and overlay index of evenly spaced frames."""
    found = []
    for path in evenly_spaced(frames, _APPEARANCE_FRAMES):
        image = image_files.read_image(path)
        index = match_overlay(overlays, image)
        view = ~overlays[index].mask
        statistics = appearance.statistics(image, view if view.any() else None)
        found.append((statistics, appearance.thumbnail(image, view), index))
    statistics, thumbnails, indices = map(np.array, zip(*found, strict=True))
    return statistics, thumbnails, indices


def _assumed_cameras(lens: str, source: Path, target: Path) -> tuple[Camera, Camera] | None:
    """Return source and target camera of a lens that is neither estimated nor random."""
    if lens not in ("fixed", "none"):
        return None
    source_size, target_size = (image_files.read_image(path).shape[1::-1] for path in (source, target))
    if lens == "none":
        same = Pinhole.from_fov(target_size, 1.0)
        return same.scaled(source_size), same
    return random_cameras(0.5, 0.5, source_size, target_size)
