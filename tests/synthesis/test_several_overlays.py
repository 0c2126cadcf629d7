"""A target camera with several overlays: matched, pasted in proportion, written and read."""

import shutil

import cv2
import numpy as np
import pytest

from lib.camera.models import Fisheye
from lib.dataset import image_files, layout
from lib.dataset.classes import BACKGROUND
from lib.stages.augment import AugmentOptions, augment
from lib.synthesis.params import AugmentParams
from lib.synthesis.target_camera import TargetCamera
from lib.target import overlay_groups
from tests.car_frames import car_frames

SIZE = (160, 90)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A target camera whose frames show two overlays, two thirds the first."""
    folder = tmp_path_factory.mktemp("two")
    paths = [*car_frames(0, 28, folder), *car_frames(1, 14, folder)]
    groups = overlay_groups.estimate_overlays(paths)
    found = [one.overlay for one in groups]
    appearance = (
        np.array([[[90] * 3, [30] * 3], [[160] * 3, [30] * 3]], np.float32),
        np.full((2, 72, 128, 3), 90, np.uint8),
    )
    shares = tuple(one.share for one in groups)
    lens = Fisheye.from_fov(SIZE, 2.0)
    return TargetCamera(found[0], lens, None, *appearance, "statistics", tuple(found[1:]), shares, np.array([0, 1]))


def test_a_frame_tells_which_overlay_it_shows(two, tmp_path):
    for number in (0, 1):
        for path in car_frames(number, 3, tmp_path, first=70, light=0.8):
            large = cv2.resize(image_files.read_image(path), (400, 225))
            assert two.match_overlay(large) is two.overlays[number]


def test_each_image_gets_one_overlay_as_often_as_frames_show_it(two):
    image, label = np.full((90, 160, 3), 120, np.uint8), np.zeros((90, 160), np.uint8)
    rng, counts, masks = np.random.default_rng(0), [0, 0], [one.mask for one in two.overlays]
    for i in range(120):
        region = None if i % 2 else (20, 10, 100, 75)  # a crop, as training makes it
        view = (slice(None), slice(None)) if i % 2 else (slice(10, 85), slice(20, 120))
        rendered = two.transform(image, label, AugmentParams.sample(rng), region)[1] == BACKGROUND
        counts[[(rendered == mask[view]).all() for mask in masks].index(True)] += 1
    assert 0.52 < counts[0] / sum(counts) < 0.82


def test_an_image_takes_the_colours_of_a_frame_with_its_overlay(two):
    assert [two._frame(place, which) for which in (0, 1) for place in (0.0, 0.99)] == [0, 0, 1, 1]


def test_several_overlays_are_read_as_they_were_written(two, tmp_path):
    two.write(tmp_path)
    again = TargetCamera.read(tmp_path)
    assert again.overlay_shares == two.overlay_shares and (again.frame_overlays == two.frame_overlays).all()
    for a, b in zip(again.overlays, two.overlays, strict=True):
        assert (a.mask == b.mask).all() and (a.image == b.image).all() and (a.noise, a.gains) == (b.noise, b.gains)
    small = again.scaled((80, 45))
    assert [one.mask.shape for one in small.overlays] == [(45, 80)] * 2


def test_augmented_images_show_both_overlays(sample, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(sample, data)
    (data / "own").mkdir()
    paths = [*car_frames(0, 16, data / "own"), *car_frames(1, 14, data / "own")]
    rows = "".join(f"T_{i},./own/{path.name}\n" for i, path in enumerate(paths))
    (data / "train_target.csv").write_text("id,img_path\n" + rows)
    folder = augment(AugmentOptions(data=data, out=tmp_path / "run", lens="random", copies=2))
    masks = [image_files.read_label(folder / f"overlay_mask{end}.png") > 0 for end in ("", "_1")]
    shown = [image_files.read_label(item.label) == BACKGROUND for item in layout.read_split(folder, "train_source")]
    counts = [sum((one == mask).all() for one in shown) for mask in masks]
    assert sum(counts) == len(shown) == 12 and min(counts) >= 2
