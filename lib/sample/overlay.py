"""The target camera's overlay: a lens circle that cuts corners and sides, and the car's hood."""

from dataclasses import dataclass

import numpy as np

from lib.sample.textures import noise

MIN_LIGHT = 0.05
"""Least share of a scene's light at which a pixel has a class: below, contrast is weaker than the sensor's noise."""


@dataclass(frozen=True)
class CameraOverlay:
    """The overlay of a rendered camera. Lengths are in image heights, so that it is alike at any size.

    Args:
        circle: radius of the lens circle.
        centre: (right, down) of the circle's centre from the image's centre.
        soft: width of the circle's fading edge, which lies inside the circle.
        hood: height of the hood in the middle of the image; 0 for none.
        curve: fall (negative: rise) of the hood's edge towards the sides, per squared height.
        lean: rise of the hood's edge to the right, per height.
        colour: sRGB colour of the hood, 0-1.
    """

    circle: float = 0.78
    centre: tuple[float, float] = (0.012, -0.008)
    soft: float = 0.06
    hood: float = 0.15
    curve: float = 0.22
    lean: float = 0.015
    colour: tuple[float, float, float] = (0.42, 0.44, 0.5)

    def mask(self, size: tuple[int, int]) -> np.ndarray:
        """Return ``bool (height, width)``, True in the overlay, for ``size`` = (width, height).

        The lens circle begins where less than :data:`MIN_LIGHT` of the scene's light passes: its edge fades so slowly
        that nobody could label its outer part.
        """
        radius, above_hood, _ = self._coordinates(size)
        return (self._fade(radius) < MIN_LIGHT) | (above_hood < 0)

    def hidden(self, size: tuple[int, int]) -> np.ndarray:
        """Return ``bool (height, width)``, True where no light of the scene passes: a part of the mask."""
        radius, above_hood, _ = self._coordinates(size)
        return (radius > self.circle) | (above_hood < 0)

    def paste(self, image: np.ndarray) -> np.ndarray:
        """Return a scene ``float32 (H, W, 3)`` in 0-1 with the overlay on it."""
        radius, above_hood, across = self._coordinates(image.shape[1::-1])
        depth = np.clip(-above_hood / max(self.hood, 1e-6), 0, 1)
        shine = 0.55 + 0.6 * np.exp(-((depth - 0.3) ** 2) / 0.03) * (0.6 + 0.4 * np.cos(5 * across + 1))
        shine += 0.25 * (noise(across, depth * 0.1, 1.0) - 0.5) + 0.35 * np.exp(-depth * 40)
        paint = shine[..., None] * np.array(self.colour, dtype=np.float32)
        fade = (self._fade(radius) * (1 - 0.35 * (radius / self.circle) ** 4))[..., None]
        scene = np.where((above_hood < 0)[..., None], paint, image)
        return (scene * fade + (1 - fade) * np.float32(0.03)).astype(np.float32)

    def _fade(self, radius: np.ndarray) -> np.ndarray:
        fade = np.clip((self.circle - radius) / self.soft, 0, 1)
        return fade * fade * (3 - 2 * fade)

    def _coordinates(self, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return distance from the circle's centre, height above the hood's edge, and x: ``float32 (H, W)`` each."""
        width, height = size
        columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        x, y = (columns - (width - 1) / 2) / height, (rows - (height - 1) / 2) / height
        edge = 0.5 - self.hood + self.curve * x * x - self.lean * x
        above_hood = edge - y if self.hood else np.ones_like(x)
        return np.hypot(x - self.centre[0], y - self.centre[1]), above_hood, x
