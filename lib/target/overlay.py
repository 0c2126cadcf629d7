"""The overlay: the parts of camera and car in every image, such as lens rim, hood and stickers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from lib.dataset.classes import BACKGROUND
from lib.target import appearance
from lib.target.appearance import Region


@dataclass(frozen=True)
class Overlay:
    """Overlay of a camera. Deviations are standard deviations (0-255) over its frames."""

    mask: np.ndarray  # bool (H, W), True in the overlay
    image: np.ndarray  # uint8 (H, W, 3) RGB, median frame; meaningless outside the mask
    deviation: np.ndarray  # float32 (H, W), of each pixel's change that its neighbours share
    noise: float = 0.0  # deviation of a pixel's own change in the overlay: the sensor's noise
    gains: tuple[float, ...] = (1.0,)  # brightness of the overlay in single frames, relative to the image

    def scaled(self, size: tuple[int, int]) -> Overlay:
        """Return the same overlay for images of (width, height)."""
        mask = cv2.resize(self.mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT) > 0
        image, deviation = (cv2.resize(a, size, interpolation=cv2.INTER_AREA) for a in (self.image, self.deviation))
        # Shrinking averages the noise of neighbours.
        noise = self.noise * min(1.0, (size[0] * size[1] / self.mask.size) ** 0.5)
        return replace(self, mask=mask, image=image, deviation=deviation, noise=noise)

    def paste(
        self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator | None = None, region: Region | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Paste the overlay onto copies of ``uint8`` image and label, softly onto the image.

        With ``rng`` it has the brightness of a random frame and fresh noise.
        """
        x, y, width, height = region or (0, 0, *self.mask.shape[::-1])
        window = slice(y, y + height), slice(x, x + width)
        whole_colour, solid, touched, (columns, rows, opacity) = self._layer
        label = cv2.copyTo(np.full_like(label, BACKGROUND), self.mask.view(np.uint8)[window], label.copy())
        image = image.copy()
        left, top, across, down = cv2.boundingRect(touched[window])
        if not across:
            return image, label
        inside = (columns >= x) & (columns < x + width) & (rows >= y) & (rows < y + height)
        columns, rows, opacity = columns[inside] - x, rows[inside] - y, opacity[inside]
        below = image[rows, columns]
        box = slice(top, top + down), slice(left, left + across)
        colour = whole_colour[window][box]
        if rng is not None:
            colour = cv2.convertScaleAbs(colour, alpha=float(rng.choice(self.gains)))
            colour = appearance.add_noise(colour, self.noise, float(rng.random()))
        cv2.copyTo(colour, solid[window][box], image[box])
        mixed = below + opacity * (colour[rows - top, columns - left].astype(np.float32) - below)
        image[rows, columns] = (mixed + np.float32(0.5)).astype(np.uint8)
        return image, label

    @cached_property
    def _layer(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
        """Return the colour, where it replaces the image and where it changes it, and where it is mixed in how much."""
        mask = self.mask.astype(np.float32)
        opacity = cv2.GaussianBlur(mask, (5, 5), 0.8, borderType=cv2.BORDER_REPLICATE)
        # Just outside the mask the image shows the street: the colour there comes from inside.
        inner = cv2.GaussianBlur(self.image * mask[..., None], (5, 5), 0.8, borderType=cv2.BORDER_REPLICATE)
        inner = (inner / np.maximum(opacity, 1e-6)[..., None]).clip(0, 255).astype(np.uint8)
        colour = np.where(self.mask[..., None], self.image, inner)
        solid, touched = opacity >= 0.999, opacity > 1e-3
        rows, columns = np.nonzero(touched & (opacity < 0.999))
        return colour, solid.view(np.uint8), touched.view(np.uint8), (columns, rows, opacity[rows, columns, None])
