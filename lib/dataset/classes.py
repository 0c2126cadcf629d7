"""Classes of the competition: ids, names, colours. No other module writes a class id as a number."""

import numpy as np

_COLOURS = {
    "Road": (128, 64, 128),
    "Sidewalk": (244, 35, 232),
    "Construction": (90, 90, 90),
    "Fence": (190, 153, 153),
    "Pole": (255, 255, 190),
    "Traffic_Light": (250, 170, 30),
    "Traffic_Sign": (220, 220, 0),
    "Nature": (107, 142, 35),
    "Sky": (70, 130, 180),
    "Person": (220, 20, 60),
    "Rider": (255, 100, 60),
    "Car": (0, 0, 142),
    "Background": (20, 20, 20),
}

CLASSES_WITH_BACKGROUND = tuple(_COLOURS)

CLASSES = CLASSES_WITH_BACKGROUND[:-1]
"""Names of the scored classes; a class's position is its id."""

(ROAD, SIDEWALK, CONSTRUCTION, FENCE, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN, NATURE, SKY, PERSON, RIDER, CAR) = range(
    len(CLASSES)
)

BACKGROUND = len(CLASSES)
"""The target camera's overlay (car hood, lens circle): trained, never scored."""

IGNORE = 255
"""Pixels without a label."""

PALETTE = np.array(list(_COLOURS.values()), dtype=np.uint8)
"""RGB colour of each class and of Background, ``uint8 (13, 3)``."""
