"""The two cameras of the sample and what lies between their lenses and the files.

The source camera is an ordinary one. The target camera is a fisheye whose image shows its own overlay
as well: a lens circle that cuts the corners and the sides, and the car's hood; its sensor has its own colours,
contrast, sharpness and noise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from lib.camera.models import Camera, Fisheye, Pinhole
from lib.sample.textures import noise

SEEN = 0.05
"""Share of a scene's light below which nobody could label it: its contrast is smaller than the sensor's noise."""


@dataclass(frozen=True)
class Sensor:
    """What becomes of the light: tone, colour, sharpness and noise.

    Args:
        gain: of red, green and blue (the white balance).
        gamma: above 1 darkens the middle tones.
        contrast: around middle grey.
        blur: standard deviation in pixels.
        noise: standard deviation in 0-255.
    """

    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    contrast: float = 1.0
    blur: float = 0.0
    noise: float = 0.0

    def develop(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """``float32 (H, W, 3)`` in 0-1 to ``uint8 (H, W, 3)``."""
        image = (image ** np.float32(self.gamma) - 0.5) * np.float32(self.contrast) + 0.5
        image = image * np.array(self.gain, dtype=np.float32) * 255
        if self.blur:
            image = cv2.GaussianBlur(image, (0, 0), self.blur)
        if self.noise:
            image = image + rng.standard_normal(image.shape, dtype=np.float32) * np.float32(self.noise)
        return np.clip(np.round(image), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class CameraOverlay:
    """The target camera's static overlay; lengths are in image heights, so any size looks the same.

    Args:
        circle: radius of the lens circle.
        centre: of the circle, (right, down) of the image's centre.
        soft: how far inside the circle the image begins to fade.
        hood: how high the hood reaches in the middle of the image; 0 for none.
        bend: how its edge falls (or, negative, rises) towards the sides, per squared height.
        lean: how much it rises to the right, per height.
        colour: of the hood, sRGB 0-1.
    """

    circle: float = 0.78
    centre: tuple[float, float] = (0.012, -0.008)
    soft: float = 0.06
    hood: float = 0.15
    bend: float = 0.22
    lean: float = 0.015
    colour: tuple[float, float, float] = (0.42, 0.44, 0.5)

    def mask(self, size: tuple[int, int]) -> np.ndarray:
        """``bool (height, width)``, True in the overlay; ``size`` = (width, height).

        The lens circle begins where less than ``SEEN`` of the scene's light gets through: its fading ends so slowly
        that the street is lost to every eye well before the last of it.
        """
        radius, above_edge, _ = self._places(size)
        return (self._fade(radius) < SEEN) | (above_edge < 0)

    def hidden(self, size: tuple[int, int]) -> np.ndarray:
        """``bool (height, width)``: where none of the scene's light gets through; the mask without its last fading."""
        radius, above_edge, _ = self._places(size)
        return (radius > self.circle) | (above_edge < 0)

    def frame(self, image: np.ndarray) -> np.ndarray:
        """The scene ``float32 (H, W, 3)`` in 0-1 with the overlay laid over it."""
        radius, above_edge, across = self._places(image.shape[1::-1])
        depth = np.clip(-above_edge / max(self.hood, 1e-6), 0, 1)
        shine = 0.55 + 0.6 * np.exp(-((depth - 0.3) ** 2) / 0.03) * (0.6 + 0.4 * np.cos(5 * across + 1))
        shine += 0.25 * (noise(across, depth * 0.1, 1.0) - 0.5) + 0.35 * np.exp(-depth * 40)
        paint = shine[..., None] * np.array(self.colour, dtype=np.float32)
        fade = (self._fade(radius) * (1 - 0.35 * (radius / self.circle) ** 4))[..., None]
        scene = np.where((above_edge < 0)[..., None], paint, image)
        return (scene * fade + (1 - fade) * np.float32(0.03)).astype(np.float32)

    def _fade(self, radius: np.ndarray) -> np.ndarray:
        fade = np.clip((self.circle - radius) / self.soft, 0, 1)
        return fade * fade * (3 - 2 * fade)

    def _places(self, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(distance from the circle's centre, height above the hood's edge, place across), ``float32 (H, W)``."""
        width, height = size
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        x, y = (x - (width - 1) / 2) / height, (y - (height - 1) / 2) / height
        edge = 0.5 - self.hood + self.bend * x * x - self.lean * x
        above_edge = edge - y if self.hood else np.ones_like(x)
        return np.hypot(x - self.centre[0], y - self.centre[1]), above_edge, x


SOURCE_SENSOR = Sensor(noise=1.5)
TARGET_SENSOR = Sensor(gain=(1.04, 0.97, 0.84), gamma=1.25, contrast=0.84, blur=0.6, noise=4.0)


@dataclass(frozen=True)
class Rig:
    """A fisheye camera as mounted on a car.

    Args:
        overlay: what it sees of itself and of the car.
        sensor: what becomes of the light.
        across: degrees that the image's width would cover without the lens circle.
        k: coefficients of the lens, :class:`lib.camera.models.Fisheye`.
    """

    overlay: CameraOverlay = CameraOverlay()
    sensor: Sensor = TARGET_SENSOR
    across: float = 192.0
    k: tuple[float, float, float, float] = (-0.04, 0.006, -0.0015, 0.0001)

    def camera(self, size: tuple[int, int]) -> Fisheye:
        """The lens, centred in its circle; ``size`` = (width, height)."""
        lens = Fisheye.from_fov(size, float(np.radians(self.across)), self.k)
        right, down = self.overlay.centre
        return replace(lens, cx=lens.cx + right * size[1], cy=lens.cy + down * size[1])


RIGS = {
    "sample": Rig(),
    "small circle": Rig(
        CameraOverlay(
            circle=0.6, centre=(-0.02, 0.01), soft=0.03, hood=0.1, bend=0.1, lean=-0.04, colour=(0.2, 0.2, 0.2)
        ),
        Sensor(gain=(0.9, 1, 1.05), contrast=0.9, noise=6.0),
        230.0,
        (0.02, -0.003, 0.0, 0.0),
    ),
    "high hood": Rig(
        CameraOverlay(circle=1.2, centre=(0, 0), soft=0.05, hood=0.3, bend=-0.12, lean=0.05, colour=(0.7, 0.68, 0.65)),
        Sensor(noise=2.0, blur=0.4),
        150.0,
        (0.0, 0.0, 0.0, 0.0),
    ),
    "soft circle": Rig(
        CameraOverlay(
            circle=0.85, centre=(0.03, 0.02), soft=0.08, hood=0.2, bend=0.35, lean=0.0, colour=(0.3, 0.1, 0.1)
        ),
        Sensor(gain=(1, 1, 0.9), gamma=1.4, contrast=0.8, blur=0.8, noise=5.0),
        185.0,
        (-0.02, 0.0, 0.0, 0.0),
    ),
}
"""The sample's own rig, and others to measure with: different lens, hood, circle and sensor."""


def source_camera(size: tuple[int, int]) -> Camera:
    """The undistorted camera of the source images, 68 degrees across ``size`` = (width, height)."""
    return Pinhole.from_fov(size, float(np.radians(68)))


def target_camera(size: tuple[int, int]) -> Camera:
    """The fisheye of the target and test images: about 160 degrees across its lens circle."""
    return RIGS["sample"].camera(size)
