"""The overlay: the parts of camera and car in every image, such as lens rim, hood and stickers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from lib.dataset.classes import BACKGROUND
from lib.target import appearance


@dataclass(frozen=True)
class Overlay:
    """Overlay of a camera.

    Attributes:
        mask: ``bool (H, W)``, True in the overlay.
        image: ``uint8 (H, W, 3)`` RGB, median frame; meaningless outside the mask.
        deviation: ``float32 (H, W)``, standard deviation (0-255) over the frames of each pixel's change that its
            neighbours share.
        noise: standard deviation (0-255) of a pixel's own change in the overlay: the sensor's noise.
        gains: brightness of the overlay in single frames, relative to the image.
    """

    mask: np.ndarray
    image: np.ndarray
    deviation: np.ndarray
    noise: float = 0.0
    gains: tuple[float, ...] = (1.0,)

    def scaled(self, size: tuple[int, int]) -> Overlay:
        """Return the same overlay for images of (width, height)."""
        mask = cv2.resize(self.mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT) > 0
        image, deviation = (cv2.resize(a, size, interpolation=cv2.INTER_AREA) for a in (self.image, self.deviation))
        # Shrinking averages the noise of neighbours.
        noise = self.noise * min(1.0, (size[0] * size[1] / self.mask.size) ** 0.5)
        return replace(self, mask=mask, image=image, deviation=deviation, noise=noise)

    def paste(
        self,
        image: np.ndarray,
        label: np.ndarray,
        rng: np.random.Generator | None = None,
        region: tuple[int, int, int, int] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Paste the overlay onto copies of an image and its label.

        The overlay's edge is soft over two pixels to either side in the image, and hard in the label.

        Args:
            image: ``uint8 (H, W, 3)``.
            label: ``uint8 (H, W)``.
            rng: draws the brightness of a random frame and fresh noise; None: the overlay's image as it is.
            region: (x, y, width, height) of image and label in the whole image; None: they are the whole.
        """
        x, y, width, height = region or (0, 0, *self.mask.shape[::-1])
        window = slice(y, y + height), slice(x, x + width)
        layer = self._layer
        label = cv2.copyTo(np.full_like(label, BACKGROUND), layer.mask[window], label.copy())
        image = image.copy()
        left, top, across, down = cv2.boundingRect(layer.touched[window])
        if not across:
            return image, label
        columns, rows = layer.edge
        inside = (columns >= x) & (columns < x + width) & (rows >= y) & (rows < y + height)
        columns, rows, opacity = columns[inside] - x, rows[inside] - y, layer.opacity[inside]
        below = image[rows, columns]
        box = slice(top, top + down), slice(left, left + across)
        colour = layer.colour[window][box]
        if rng is not None:
            colour = cv2.convertScaleAbs(colour, alpha=float(rng.choice(self.gains)))
            colour = appearance.add_noise(colour, self.noise, float(rng.random()))
        cv2.copyTo(colour, layer.solid[window][box], image[box])
        mixed = below + opacity * (colour[rows - top, columns - left].astype(np.float32) - below)
        image[rows, columns] = (mixed + np.float32(0.5)).astype(np.uint8)
        return image, label

    @cached_property
    def _layer(self) -> _Layer:
        mask = self.mask.astype(np.float32)
        opacity = cv2.GaussianBlur(mask, (5, 5), 0.8, borderType=cv2.BORDER_REPLICATE)
        # Just outside the mask the image shows the street: the colour there comes from inside.
        inner = cv2.GaussianBlur(self.image * mask[..., None], (5, 5), 0.8, borderType=cv2.BORDER_REPLICATE)
        inner = (inner / np.maximum(opacity, 1e-6)[..., None]).clip(0, 255).astype(np.uint8)
        rows, columns = np.nonzero((opacity > 1e-3) & (opacity < 0.999))
        return _Layer(
            colour=np.where(self.mask[..., None], self.image, inner),
            mask=self.mask.astype(np.uint8),
            solid=(opacity >= 0.999).astype(np.uint8),
            touched=(opacity > 1e-3).astype(np.uint8),
            edge=(columns, rows),
            opacity=opacity[rows, columns, None],
        )


@dataclass(frozen=True)
class _Layer:
    """An overlay ready to be pasted.

    ``colour (H, W, 3)`` replaces the image where ``solid (H, W)`` and is mixed in by ``opacity (N, 1)`` at the pixels
    ``edge`` (columns, rows); ``touched (H, W)`` is both, and ``mask (H, W)`` where the label changes.
    """

    colour: np.ndarray
    mask: np.ndarray
    solid: np.ndarray
    touched: np.ndarray
    edge: tuple[np.ndarray, np.ndarray]
    opacity: np.ndarray
