"""Image pyramids laid out in one atlas, so that one remap call reads from all their levels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lib.dataset.classes import POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN

THIN = (POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN)  # classes thinner than a pixel of a shrunk label


@dataclass(frozen=True)
class Pyramid:
    """Layout of an image pyramid: the largest level stands left, the others below one another on its right.

    Attributes:
        crop: rows and columns of the source images that the pyramid holds.
        levels: (level, x, y, width, height) of each copy, halved ``level`` times and framed by one pixel.
    """

    crop: tuple[slice, slice]
    levels: list[tuple[int, int, int, int, int]]

    @classmethod
    def build(cls, crop: tuple[slice, slice], least: int, most: int) -> Pyramid:
        """Lay out copies halved ``least`` to ``most`` times."""
        levels: list[tuple[int, int, int, int, int]] = []
        x, y = 1, 1
        for level in range(least, most + 1):
            height, width = (max(1, (side.stop - side.start) >> level) for side in crop)
            levels.append((level, x, y, width, height))
            x, y = (x + width + 2, 1) if level == least else (x, y + height + 2)
        return cls(crop, levels)

    def atlas(self, image: np.ndarray) -> np.ndarray:
        """Return all levels of ``uint8 (h, w)`` or ``(h, w, 3)`` in one image."""
        image, halved = image[self.crop], 0
        right, bottom = (max(level[i] + level[i + 2] for level in self.levels) + 1 for i in (1, 2))
        atlas = np.empty((bottom, right, *image.shape[2:]), np.uint8)
        for level, x, y, width, height in self.levels:
            while halved < level:
                halved += 1
                half = tuple(max(1, n // 2) for n in image.shape[1::-1])
                image = cv2.resize(image, half, interpolation=cv2.INTER_AREA)
            framed = atlas[y - 1 : y + height + 1, x - 1 : x + width + 1]
            cv2.copyMakeBorder(image, 1, 1, 1, 1, cv2.BORDER_REPLICATE, dst=framed)
        return atlas

    def thin_classes(self, label: np.ndarray) -> np.ndarray:
        """Return the atlas of the masks (0 or 255) of a label's thin classes, a channel each."""
        return self.atlas(cv2.merge([cv2.inRange(label, c, c) for c in THIN]))
