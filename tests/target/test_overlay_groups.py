"""Frames with several overlays, grouped."""

import numpy as np
import pytest

from lib.dataset import image_files
from lib.target import overlay_groups
from tests.car_frames import car_frames, car_overlay


def overlap(found, truth):
    return (found & truth).sum() / (found | truth).sum()


def test_frames_of_two_cars_are_grouped(tmp_path):
    low, high = car_frames(0, 26, tmp_path), car_frames(1, 16, tmp_path)
    mixed = [*high[:8], *low[:20], *high[8:], *low[20:]]
    first, second = overlay_groups.estimate_overlays(mixed)
    assert set(first.paths) == set(low) and set(second.paths) == set(high)
    assert (first.share, second.share) == (26 / 42, 16 / 42)
    assert (
        overlap(first.overlay.mask, car_overlay(0)[0]) > 0.95 and overlap(second.overlay.mask, car_overlay(1)[0]) > 0.95
    )


@pytest.mark.parametrize("more", ["nothing", "standing", "dusk", "few others"])
def test_one_car_stays_one(tmp_path, more):
    own = car_frames(0, 30, tmp_path)
    own += {
        "nothing": list,
        "standing": lambda: car_frames(0, 20, tmp_path, scene=5),
        "dusk": lambda: car_frames(0, 20, tmp_path, first=50, light=0.55),
        "few others": lambda: car_frames(1, 5, tmp_path),
    }[more]()
    assert overlay_groups.group_frames(own) == [own]


def test_few_frames_are_one_group(tmp_path):
    paths = [*car_frames(0, 12, tmp_path), *car_frames(1, 11, tmp_path)]
    assert overlay_groups.group_frames(paths) == [paths]


def test_black_frames_belong_to_no_group(tmp_path):
    black = tmp_path / "black.png"
    image_files.write_png(black, np.zeros((90, 160, 3), np.uint8))
    first, second = overlay_groups.group_frames(
        [black, *car_frames(0, 14, tmp_path), black, *car_frames(1, 13, tmp_path)]
    )
    assert (len(first), len(second)) == (14, 13)
