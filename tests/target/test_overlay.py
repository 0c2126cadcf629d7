"""Pasting an overlay onto images and labels."""

import cv2
import numpy as np
import pytest

from lib.dataset.classes import BACKGROUND, ROAD
from lib.target.estimate_overlay import estimate_overlay
from lib.target.overlay import Overlay


def test_pasting_labels_the_overlay_and_leaves_the_rest(frames, textured):
    paths, _, _ = frames
    found = estimate_overlay(paths)
    image, label = textured(90, 160, seed=7), np.full((90, 160), ROAD, np.uint8)
    pasted, labelled = found.paste(image, label)
    assert (labelled[found.mask] == BACKGROUND).all() and (labelled[~found.mask] == ROAD).all()
    near, deep = (cv2.dilate(m.astype(np.uint8), np.ones((5, 5))) > 0 for m in (found.mask, ~found.mask))
    assert (pasted[~near] == image[~near]).all() and (pasted[~deep] == found.image[~deep]).all()
    assert (label == ROAD).all(), "the input is not changed"


def test_the_pasted_edge_is_soft_and_the_labels_hard():
    mask = np.zeros((20, 30), dtype=bool)
    mask[12:] = True
    plate = np.where(mask[..., None], 200, 90).astype(np.uint8).repeat(3, axis=2)
    found = Overlay(mask, plate, np.zeros(mask.shape, np.float32))
    pasted, label = found.paste(np.zeros((20, 30, 3), np.uint8), np.full((20, 30), ROAD, np.uint8))
    column = pasted[:, 15, 0].astype(int)
    assert (np.diff(column[8:16]) >= 0).all() and column[9] == 0 and column[14] == 200
    assert 10 < column[11] < 100 < column[12] < 190, "two pixels on either side are mixed"
    assert set(np.unique(label)) == {ROAD, BACKGROUND}


def test_the_overlay_can_vary_as_they_do_in_the_frames(frames):
    found = estimate_overlay(frames[0])
    image, label = np.zeros((90, 160, 3), np.uint8), np.zeros((90, 160), np.uint8)
    assert found.noise == pytest.approx(2, abs=0.4) and all(0.9 < gain < 1.1 for gain in found.gains)
    varied = [found.paste(image, label, np.random.default_rng(seed))[0] for seed in (1, 1, 2)]
    assert (varied[0] == varied[1]).all() and (varied[0] != varied[2]).any()
    deep = cv2.erode(found.mask.astype(np.uint8), np.ones((7, 7))) > 0
    assert 1 < (varied[0][deep].astype(float) - found.image[deep]).std() < 4
