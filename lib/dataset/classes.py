"""The classes of the competition: ids, names, colours.

This is the only module that writes a class id as a number; everything else imports it from here.
"""

import numpy as np

CLASSES = (
    "Road",
    "Sidewalk",
    "Construction",
    "Fence",
    "Pole",
    "Traffic_Light",
    "Traffic_Sign",
    "Nature",
    "Sky",
    "Person",
    "Rider",
    "Car",
)
"""Names of the scored classes; a class's position is its id."""

(ROAD, SIDEWALK, CONSTRUCTION, FENCE, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN, NATURE, SKY, PERSON, RIDER, CAR) = range(
    len(CLASSES)
)

BACKGROUND = len(CLASSES)
"""The target camera's static surroundings (car hood, lens circle): learned, never scored."""

IGNORE = 255
"""Pixels without a label."""

CLASSES_WITH_BACKGROUND = (*CLASSES, "Background")

PALETTE = np.array(
    [
        (128, 64, 128),
        (244, 35, 232),
        (90, 90, 90),
        (190, 153, 153),
        (255, 255, 190),
        (250, 170, 30),
        (220, 220, 0),
        (107, 142, 35),
        (70, 130, 180),
        (220, 20, 60),
        (255, 100, 60),
        (0, 0, 142),
        (20, 20, 20),
    ],
    dtype=np.uint8,
)
"""RGB colour of each class and of Background, ``uint8 (13, 3)``."""
