"""Frames with a known overlay, and known lenses."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from lib.camera.models import Fisheye
from lib.dataset import image_files
from lib.target.overlay import Overlay

SIZE = (480, 270)
LENSES = {  # half the width in rad, k
    "equidistant": (1.3, (0.0, 0.0, 0.0, 0.0)),
    "equisolid": (1.5, (-1 / 24, 1 / 1920, 0.0, 0.0)),
    "stereographic": (1.1, (1 / 12, 1 / 120, 17 / 20160, 0.0)),
}


def textured(height, width, seed=0):
    """A smooth random picture, so that a sub-pixel shift changes little."""
    noise = np.random.default_rng(seed).uniform(0, 255, (height // 8, width // 8, 3)).astype(np.float32)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


@pytest.fixture(name="textured")
def _textured():
    return textured


@pytest.fixture
def frames(tmp_path):
    """24 frames of changing content behind a static frame of known shape."""
    truth = np.zeros((90, 160), dtype=bool)
    truth[:, :12] = truth[:, -12:] = truth[72:] = True
    still = textured(90, 160, seed=99) // 3
    paths = []
    for i in range(24):
        rng = np.random.default_rng(i)
        image = np.where(truth[..., None], still, textured(90, 160, seed=i)).astype(float)
        path = tmp_path / f"{i}.png"
        image_files.write_png(path, (image + rng.normal(0, 2, image.shape)).clip(0, 255).astype(np.uint8))
        paths.append(path)
    return paths, truth, still


@pytest.fixture(scope="session")
def known_lens():
    """Function from a name in LENSES to a camera."""

    def camera(name, off=(5.0, -4.0)):
        half, k = LENSES[name]
        lens = Fisheye.from_fov(SIZE, 2 * half, k)
        return replace(lens, cx=lens.cx + off[0], cy=lens.cy + off[1])

    return camera


@pytest.fixture(scope="session")
def empty_overlay():
    width, height = SIZE
    return Overlay(
        np.zeros((height, width), bool), np.zeros((height, width, 3), np.uint8), np.ones((height, width), np.float32)
    )


@pytest.fixture(scope="session")
def pixel_error():
    """Function to the mean distance (pixels) between the pixels at which two cameras see a ray."""

    def error(estimate, true, seen):
        y, x = np.nonzero(seen)
        pixels = np.stack([x, y], axis=-1)[::11].astype(float)
        distance = np.linalg.norm(estimate.project(true.unproject(pixels)) - pixels, axis=-1)
        assert np.isfinite(distance).all()
        return distance.mean()

    return error
