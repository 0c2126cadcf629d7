"""The source's field of view: an estimate widened until it covers the target's."""

import numpy as np
import pytest

from lib.camera.models import Fisheye
from lib.synthesis import estimate
from lib.synthesis.estimate import choose_source_fov, horizontal_fov
from lib.target.lens import FieldOfView


@pytest.mark.parametrize(("target_deg", "expected"), [(60, (37.2, 74.0)), (100, (50.27, 100.0)), (150, (60.32, 120.0))])
def test_the_widest_source_covers_the_target(target_deg, expected, monkeypatch):
    found = FieldOfView(np.radians(40), 0.01, True, "Field of view 40.")
    monkeypatch.setattr(estimate, "estimate_field_of_view", lambda paths: found)
    chosen = choose_source_fov([], np.radians(target_deg))
    assert np.allclose(np.degrees(chosen.range_rad), expected) and np.allclose(chosen.range_deg, expected)
    assert f"{expected[1]:.0f}" in chosen.report


def test_a_given_range_is_used_without_an_estimate(monkeypatch):
    monkeypatch.setattr(estimate, "estimate_field_of_view", None)
    chosen = choose_source_fov([], 1.0, [50, 90])
    assert chosen.range_deg == (50, 90) and chosen.report == ""
    assert np.allclose(chosen.range_rad, np.radians((50, 90)))


def test_the_horizontal_field_of_view_is_the_angle_between_the_sides():
    lens = Fisheye(960, 540, 400.0, 400.0, 479.5, 269.5)
    mask = np.zeros((540, 960), bool)
    assert horizontal_fov(lens, mask) == pytest.approx(2 * 479.5 / 400, rel=0.02)
    mask[:, :200] = mask[:, -200:] = True
    assert horizontal_fov(lens, mask) == pytest.approx(2 * 279.5 / 400, rel=0.02)
    assert horizontal_fov(lens, np.ones((540, 960), bool)) == 0
