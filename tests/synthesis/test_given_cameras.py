"""Given cameras against the images; files of all kinds are in tests/faults/cameras_cases.py."""

from dataclasses import replace

import numpy as np
import pytest

from lib.camera.models import DoubleSphere, Fisheye, Pinhole, RadialPolynomial
from lib.camera.remap import build_remap
from lib.errors import InputError
from lib.sample import RIGS, source_camera
from lib.synthesis.given_cameras import check_cameras, covered_share

SIZE = (480, 270)
SOURCE = Pinhole(480, 270, 330, 330, 239.5, 134.5)
TARGET = Fisheye(480, 270, 160, 160, 239.5, 134.5, (0.01, 0.0, 0.0, 0.0))


def check(source, target, source_size=SIZE, target_size=SIZE):
    check_cameras("cameras.yaml", (source, target), [source_size], [target_size])


@pytest.mark.parametrize("name", RIGS)
@pytest.mark.parametrize("size", [(96, 54), (1920, 1080)])
def test_true_cameras_are_accepted_at_any_resolution(name, size):
    check(source_camera((2048, 1024)), RIGS[name].camera(SIZE), (1024, 512), size)


@pytest.mark.parametrize(
    "target",
    [
        RadialPolynomial(
            1280, 966, 1, 1, 643.442, 479.5, (339.749, -31.988, 48.275, -7.201)
        ),  # WoodScape's front camera
        DoubleSphere(1400, 1400, 1336.3, 1335.8, 716.9, 705.8, 2.2134),  # as in KITTI-360, without distortion
        replace(TARGET, width=960, height=540, fx=320, fy=320, cx=479.5, cy=269.5),
    ],
)
def test_real_lenses_are_accepted(target):
    check(Pinhole.from_fov((2048, 1024), np.radians(80)), target, (2048, 1024), (target.width, target.height))


def test_the_covered_share_is_that_of_the_remap():
    covered = build_remap(TARGET, SOURCE).covered
    middle = TARGET.rays()[..., 2] >= 0.5
    assert covered_share(SOURCE, TARGET) == pytest.approx(covered[middle].mean(), abs=0.01)
    assert covered_share(TARGET, SOURCE) == 1
    assert covered_share(SOURCE, replace(TARGET, fx=16, fy=16)) < 0.01


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (SOURCE, TARGET.scaled((480, 360)), r"480×360 px \(aspect ratio 1.33\), but images of 480×270 px .*1.78"),
        (SOURCE, TARGET.scaled((270, 480)), "exchange width and height"),
        (TARGET, SOURCE, r"the source \(.*° wide\) curves .*exchange the two"),
        (SOURCE, replace(TARGET, fx=0.333, fy=0.333), "source covers 0% of .*at least 20%.*480×270"),
        (replace(SOURCE, fx=0.6875, fy=0.6875), TARGET, "source: fx is 0.6875, and the field of view 179.7°"),
        (SOURCE, replace(TARGET, cx=-3.0), "target: cx is -3, outside"),
        (SOURCE, replace(TARGET, k=(-1.0, 0.0, 0.0, 0.0)), "target: the distortion folds at 33°"),
        (SOURCE, replace(TARGET, fy=480.0), "fx is 160 and fy is 480"),
    ],
)
def test_cameras_that_do_not_fit_are_refused_with_the_numbers(source, target, message):
    with pytest.raises(InputError, match="cameras.yaml: .*" + message):
        check(source, target)


def test_each_size_of_the_images_counts():
    with pytest.raises(InputError, match="images of 640×480 px"):
        check_cameras("cameras.yaml", (SOURCE, TARGET), [SIZE, (640, 480)], [SIZE])
