"""Plausibility of given cameras: whether they can be those of the images, and how much of the target the source covers.

A camera file that does not fit renders without an error, and the network learns from wrong images.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lib.camera.models import Camera
from lib.errors import InputError

LEAST_COVERED = 0.2
"""Least share of the target's middle that a given source camera has to cover."""
MIDDLE_RAD = np.radians(60)
"""Largest angle to the target's axis of its middle: beyond, no ordinary camera covers much."""
_WIDEST_RAD = np.radians(115)  # no lens of a car sees farther from its axis
_SOURCE_FOV_DEG = (5.0, 160.0)
_TARGET_FOV_DEG = (10.0, 360.0)
_ASPECT = 0.01  # relative deviation: sizes are rounded
_BORDER = 0.01  # of width and height: a principal point nearer to the border is none
_PULLED = 1.25  # times the perspective radius: lenses show their border smaller than that
_PUSHED = 0.95  # times the orthographic radius, sin(theta): fisheye lenses show their border larger than that
_FOLDS_RAD = np.radians(45)  # a lens whose radius falls from here on, or earlier, is none
_STEEP_RAD = np.radians(80)  # the tangent, and with it a comparison with it, ends at 90 degrees
_BEND = 0.02  # of the radius: smaller differences between two cameras may be errors of their calibration
_ANISOTROPY = 2.0
_WIDTH = 320  # pixels at which the share is computed


def check_cameras(
    path: str | Path,
    cameras: tuple[Camera, Camera],
    source_sizes: Iterable[tuple[int, int]],
    target_sizes: Iterable[tuple[int, int]],
) -> None:
    """Check the source and target camera of the file ``path`` against the (width, height) of the images.

    Raises:
        InputError: cameras of another aspect ratio, exchanged ones, ones that no lens has, or ones with which the
            source covers less than :data:`LEAST_COVERED` of the target's middle.
    """
    source, target = cameras
    sizes = {"source": list(source_sizes), "target": list(target_sizes)}
    crossed = all(map(_fits, cameras, (sizes["target"][0], sizes["source"][0])))
    for name, camera in zip(sizes, cameras, strict=True):
        for size in sizes[name]:
            if not _fits(camera, size):
                raise InputError(f"{path}: {name}: {_other_aspect(camera, size, crossed)}")
    half = [_half_fov(camera) for camera in cameras]
    straight = [_straightness(camera, float(np.clip(min(half), 0.05, _STEEP_RAD))) for camera in cameras]
    exchanged = straight[0] < straight[1] - _BEND
    faults = _faults(source, target)
    if faults and not (exchanged and not _faults(target, source)):
        raise InputError(f"{path}: {faults[0]}")
    if exchanged:
        fov = [f"{np.degrees(2 * each):.0f}°" for each in half]
        raise InputError(
            f"{path}: the source ({fov[0]} wide) curves straight lines more than the target ({fov[1]} wide) "
            "(expected: an undistorted source); exchange the two, or correct the models"
        )
    if (share := covered_share(source, target)) < LEAST_COVERED:
        raise InputError(
            f"{path}: the source covers {share:.0%} of the target's middle, up to 60° from its axis, "
            f"(expected: at least {LEAST_COVERED:.0%}) with images of {_by(sizes['source'][0])} and "
            f"{_by(sizes['target'][0])}; correct the focal lengths, which are in pixels, or leave cameras_file out"
        )


def covered_share(source: Camera, target: Camera) -> float:
    """Return the share (0-1) of the target's middle that the source covers without mirror images.

    The middle are the pixels up to :data:`MIDDLE_RAD` from the axis. Where hardly any pixel lies in the view of a real
    lens, the share is relative to all pixels.
    """
    rays = _small(target).rays()
    x, y = np.moveaxis(source.project(rays), -1, 0)
    covered = (x >= -0.5) & (x < source.width - 0.5) & (y >= -0.5) & (y < source.height - 0.5)
    middle = rays[..., 2] >= np.cos(MIDDLE_RAD)
    if (rays[..., 2] >= np.cos(_WIDEST_RAD)).mean() < LEAST_COVERED:
        return float(covered.mean())
    return float((covered & middle).sum() / max(1, middle.sum()))


def _fits(camera: Camera, size: tuple[int, int]) -> bool:
    return abs(np.log(camera.width * size[1] / (camera.height * size[0]))) < _ASPECT


def _other_aspect(camera: Camera, size: tuple[int, int], crossed: bool) -> str:
    found, expected = ((*each, each[0] / each[1]) for each in ((camera.width, camera.height), size))
    if crossed:
        remedy = "exchange source and target"
    elif _fits(camera, size[::-1]):
        remedy = "exchange width and height"
    else:
        remedy = "give the camera of the images as they are, cropped or padded alike"
    return (
        f"a camera of {_by(found)} (aspect ratio {found[2]:.2f}), but images of {_by(expected)} "
        f"(expected: {expected[2]:.2f}, at any resolution); {remedy}"
    )


def _by(size) -> str:
    return f"{size[0]}×{size[1]} px"


def _faults(source: Camera, target: Camera) -> list[str]:
    """Return why no lens has the numbers of one camera or the other."""
    found = {"source": _fault(source, _SOURCE_FOV_DEG, True), "target": _fault(target, _TARGET_FOV_DEG, False)}
    return [f"{name}: {fault}" for name, fault in found.items() if fault]


def _fault(camera: Camera, fov_deg: tuple[float, float], whole: bool) -> str | None:
    """Return why no lens has these numbers, or None; ``whole``: each pixel needs a ray."""
    for name, place, side in (("cx", camera.cx, camera.width), ("cy", camera.cy, camera.height)):
        if not _BORDER * side <= place + 0.5 <= (1 - _BORDER) * side:
            return (
                f"{name} is {place:g}, outside or on the border of {side} px (expected: near {(side - 1) / 2:g}); "
                "principal points are in pixels"
            )
    if not 1 / _ANISOTROPY <= camera.fx / camera.fy <= _ANISOTROPY:
        return f"fx is {camera.fx:g} and fy is {camera.fy:g} (expected: about alike); correct one of them"
    half = _half_fov(camera)
    folds = (
        f"the distortion folds at {np.degrees(camera.max_angle):.0f}° from the axis, within the image (expected: "
        "coefficients that hold for the whole image); correct them"
    )
    if half == camera.max_angle < _FOLDS_RAD:
        return folds
    if not fov_deg[0] <= np.degrees(2 * half) <= fov_deg[1]:
        return (
            f"fx is {camera.fx:g}, and the field of view {np.degrees(2 * half):.4g}° (expected: {fov_deg[0]:g}° to "
            f"{fov_deg[1]:g}°); focal lengths are in pixels"
        )
    if whole and not np.isfinite(_small(camera).rays()).all():
        return folds
    theta = np.linspace(0.1, min(half, _STEEP_RAD), 20)
    relative = np.array([_straightness(camera, angle) for angle in theta])
    if relative.max() > _PULLED:
        return (
            f"the distortion enlarges the border {relative.max():.1f} times (expected: up to {_PULLED:g}, and fisheye "
            "lenses shrink it); correct the coefficients"
        )
    if (orthographic := (relative / np.cos(theta)).min()) < _PUSHED:
        return (
            f"the distortion shrinks the border to {orthographic:.2f} of an orthographic lens, the strongest there is "
            f"(expected: from {_PUSHED:g}); give the coefficients of this model, not those of a pinhole camera"
        )
    return None


def _small(camera: Camera) -> Camera:
    return camera.scaled((_WIDTH, max(1, round(_WIDTH * camera.height / camera.width))))


def _half_fov(camera: Camera) -> float:
    """Return half the horizontal field of view (rad); up to the valid domain, where that ends within the image."""
    rays = camera.unproject([[-0.5, camera.cy], [camera.width - 0.5, camera.cy]])
    return float(np.nan_to_num(np.arccos(rays[:, 2]), nan=camera.max_angle).mean())


def _straightness(camera: Camera, theta: float) -> float:
    """Return the radius at an angle (rad), relative to that of a camera without distortion; 1: lines stay straight."""
    radius, slope = camera.radius(np.array([theta, 1e-4]))
    return float(radius / (1e4 * slope * np.tan(theta)))
