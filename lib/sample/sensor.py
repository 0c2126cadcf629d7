"""The sensor behind a lens: colour, tone, sharpness and noise of the sample's images."""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Sensor:
    """Tone, colour, sharpness and noise of a camera.

    Args:
        gain: factors of red, green and blue (white balance).
        gamma: exponent; above 1 it darkens the middle tones.
        contrast: factor around middle grey.
        blur: standard deviation in pixels.
        noise: standard deviation in 0-255.
    """

    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    contrast: float = 1.0
    blur: float = 0.0
    noise: float = 0.0

    def develop(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return ``uint8 (H, W, 3)`` from an image ``float32 (H, W, 3)`` in 0-1."""
        image = (image ** np.float32(self.gamma) - 0.5) * np.float32(self.contrast) + 0.5
        image = image * np.array(self.gain, dtype=np.float32) * 255
        if self.blur:
            image = cv2.GaussianBlur(image, (0, 0), self.blur)
        if self.noise:
            image = image + rng.standard_normal(image.shape, dtype=np.float32) * np.float32(self.noise)
        return np.clip(np.round(image), 0, 255).astype(np.uint8)


SOURCE_SENSOR = Sensor(noise=1.5)
TARGET_SENSOR = Sensor(gain=(1.04, 0.97, 0.84), gamma=1.25, contrast=0.84, blur=0.6, noise=4.0)
