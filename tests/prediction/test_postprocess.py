"""Class maps from probabilities."""

import numpy as np
import torch

from lib.dataset.classes import BACKGROUND, CAR, POLE, ROAD, SKY
from lib.prediction.postprocess import most_probable_class, remove_small_regions
from tests.builders import KINDS


def test_background_is_where_the_overlay_mask_is_and_nowhere_else():
    probabilities = torch.zeros(KINDS, 4, 6)
    probabilities[BACKGROUND], probabilities[CAR] = 0.6, 0.3
    mask = np.zeros((4, 6), bool)
    mask[2:] = True
    assert (most_probable_class(probabilities) == BACKGROUND).all()
    label = most_probable_class(probabilities, mask)
    assert label.dtype == np.uint8 and (label[2:] == BACKGROUND).all() and (label[:2] == CAR).all()


def test_small_regions_take_the_class_around_them():
    label = np.full((400, 500), SKY, np.uint8)
    label[200:] = ROAD
    label[50:53, 60:63] = CAR  # 9 pixels: too few for a car (10 here), enough for a pole (6)
    label[80:83, 60:63] = POLE
    label[300:320, 100:130] = CAR
    label[308:310, 110:112] = POLE  # on the car
    label[199:202, 300:303] = CAR  # across the horizon, mostly below it
    clean = remove_small_regions(label)
    expected = label.copy()
    expected[50:53, 60:63], expected[308:310, 110:112] = SKY, CAR
    expected[199:202, 300:303] = ROAD
    assert (clean == expected).all()
    assert (remove_small_regions(label, 1e-3) == label).all()
    assert (remove_small_regions(label, 10)[80:83, 60:63] == SKY).all()


def test_background_replaces_a_region_only_where_nothing_else_touches_it():
    label = np.full((400, 500), BACKGROUND, np.uint8)
    label[100:102, 100:102] = CAR
    label[:50] = ROAD
    label[49:53, 200] = CAR
    clean = remove_small_regions(label)
    assert (clean[100:102, 100:102] == BACKGROUND).all() and (clean[49:53, 200] == ROAD).all()
