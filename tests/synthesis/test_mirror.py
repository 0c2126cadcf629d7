"""A target camera with and without mirror images."""

from dataclasses import replace

import numpy as np

from lib.camera.models import Fisheye
from lib.dataset.classes import IGNORE
from lib.synthesis.params import AugmentParams
from lib.synthesis.target_camera import TargetCamera
from lib.target.overlay import Overlay

SIZE = (320, 200)


def test_without_mirroring_the_view_beyond_the_source_stays_unlabelled():
    plain = Overlay(np.zeros(SIZE[::-1], bool), np.zeros((*SIZE[::-1], 3), np.uint8), np.zeros(SIZE[::-1], np.float32))
    appearance = np.zeros((1, 2, 3), np.float32), np.zeros((1, 72, 128, 3), np.uint8)
    target = TargetCamera(plain, Fisheye.from_fov(SIZE, 2.8), None, *appearance, "none")
    image, label = np.full((96, 160, 3), 90, np.uint8), np.ones((96, 160), np.uint8)
    params = AugmentParams.neutral(yaw=0.03)
    seen, all_of_it = (
        replace(target, mirror=way).transform(image, label, params)[1] != IGNORE for way in (False, True)
    )
    assert all_of_it[seen].all() and seen.mean() + 0.3 < all_of_it.mean() < 1
    assert all_of_it[100].all(), "at the horizon the street continues to both sides"
