"""The sample's cameras: an ordinary source camera, and fisheye rigs with an overlay and a sensor of their own."""

from dataclasses import dataclass, replace

import numpy as np

from lib.camera.models import Camera, Fisheye, Pinhole
from lib.sample.overlay import CameraOverlay
from lib.sample.sensor import TARGET_SENSOR, Sensor


@dataclass(frozen=True)
class Rig:
    """A fisheye camera mounted on a car.

    Args:
        overlay: lens circle and hood.
        sensor: tone, colour and noise.
        fov_deg: field of view over the image's width, without the lens circle.
        k: coefficients of :class:`lib.camera.models.Fisheye`.
    """

    overlay: CameraOverlay = CameraOverlay()
    sensor: Sensor = TARGET_SENSOR
    fov_deg: float = 192.0
    k: tuple[float, float, float, float] = (-0.04, 0.006, -0.0015, 0.0001)

    def camera(self, size: tuple[int, int]) -> Camera:
        """Return the lens for ``size`` = (width, height), with its principal point in the lens circle's centre."""
        lens = Fisheye.from_fov(size, float(np.radians(self.fov_deg)), self.k)
        right, down = self.overlay.centre
        return replace(lens, cx=lens.cx + right * size[1], cy=lens.cy + down * size[1])


RIGS = {
    "sample": Rig(),
    "small circle": Rig(
        CameraOverlay(
            circle=0.6, centre=(-0.02, 0.01), soft=0.03, hood=0.1, curve=0.1, lean=-0.04, colour=(0.2, 0.2, 0.2)
        ),
        Sensor(gain=(0.9, 1, 1.05), contrast=0.9, noise=6.0),
        230.0,
        (0.02, -0.003, 0.0, 0.0),
    ),
    "high hood": Rig(
        CameraOverlay(circle=1.2, centre=(0, 0), soft=0.05, hood=0.3, curve=-0.12, lean=0.05, colour=(0.7, 0.68, 0.65)),
        Sensor(noise=2.0, blur=0.4),
        150.0,
        (0.0, 0.0, 0.0, 0.0),
    ),
    "soft circle": Rig(
        CameraOverlay(
            circle=0.85, centre=(0.03, 0.02), soft=0.08, hood=0.2, curve=0.35, lean=0.0, colour=(0.3, 0.1, 0.1)
        ),
        Sensor(gain=(1, 1, 0.9), gamma=1.4, contrast=0.8, blur=0.8, noise=5.0),
        185.0,
        (-0.02, 0.0, 0.0, 0.0),
    ),
}
"""The sample's rig, and rigs for tests and benchmarks that differ in lens, hood, circle and sensor."""


def source_camera(size: tuple[int, int]) -> Camera:
    """Return the undistorted source camera: 68 degrees of horizontal field of view; ``size`` = (width, height)."""
    return Pinhole.from_fov(size, float(np.radians(68)))


def target_camera(size: tuple[int, int]) -> Camera:
    """Return the target's fisheye lens: about 160 degrees within its lens circle; ``size`` = (width, height)."""
    return RIGS["sample"].camera(size)
