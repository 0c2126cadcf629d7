"""The lens fitted to lines of known streets."""

import numpy as np
import pytest

from lib.target import plumb_line
from lib.target.edges import POINTS, Edges
from lib.target.lens import expected_lens

SIZE = (480, 270)


def street_lines(true, frames, rng, bent=0.2):
    """Points on lines of right-angled streets as ``true`` sees them, with noise, some of them on curves."""
    points, frame = [], []
    for number in range(frames):
        yaw, tilt = rng.normal(0, 0.3), rng.normal(0, 0.04)
        down, ahead = np.array([0, np.cos(tilt), np.sin(tilt)]), np.array([0, -np.sin(tilt), np.cos(tilt)])
        right = np.array([1.0, 0, 0])
        ways = [down, np.cos(yaw) * ahead + np.sin(yaw) * right, np.cos(yaw) * right - np.sin(yaw) * ahead]
        while frame.count(number) < 40:
            start = true.unproject(rng.uniform((0.02, 0.02), (0.98, 0.85)) * SIZE)
            line = start + np.linspace(-1, 1, POINTS)[:, None] * rng.uniform(0.1, 0.4) * ways[rng.integers(3)]
            pixels = true.project(line)
            if not ((pixels > 3) & (pixels < np.array(SIZE) - 4)).all() or np.ptp(pixels, axis=0).max() < 20:
                continue
            if rng.random() < bent:
                x, y = pixels[-1] - pixels[0]
                pixels = pixels + np.linspace(-1, 1, POINTS)[:, None] ** 2 * rng.normal(0, 0.1) * (-y, x)
            points.append(pixels + rng.normal(0, 0.15, pixels.shape))
            frame.append(number)
    return Edges(np.array(points), np.array(frame))


@pytest.mark.parametrize("name", ["equidistant", "equisolid", "stereographic"])
def test_lines_determine_the_lens(name, known_lens, pixel_error):
    true = known_lens(name)
    lines = street_lines(true, 15, np.random.default_rng(3))
    expected = expected_lens(SIZE, None)
    tries = [plumb_line.fit(lines, expected.mean + step * np.eye(7)[2], expected) for step in (-0.25, 0, 0.25)]
    best = min(tries, key=lambda one: one.cost)
    found = plumb_line.camera(best.lens, SIZE)
    assert pixel_error(found, true, np.ones(SIZE[::-1])) < 2
    assert np.abs(found.cx - true.cx) < 1 and np.abs(found.cy - true.cy) < 1
    assert 0.1 < (best.weight < 0.25).mean() < 0.3, "curves are outliers, lines are not"


def test_the_right_angles_of_streets_are_found_again(known_lens):
    true = known_lens("equidistant")
    lines = street_lines(true, 6, np.random.default_rng(0), bent=0)
    start = np.array([true.cx, true.cy, np.log(true.fx), 0, 0, 0, 0])
    found = plumb_line.fit(lines, start, expected_lens(SIZE, None))
    assert (found.kind < 3).mean() > 0.9
    down = found.directions[:, 0]
    assert (down[:, 1] > 0.98).all() and np.allclose(np.linalg.norm(down, axis=1), 1)


def test_a_table_of_rays_agrees_with_the_camera(known_lens):
    for name in ("equidistant", "equisolid", "stereographic"):
        true = known_lens(name)
        pixels = np.random.default_rng(0).uniform((0, 0), SIZE, (500, 2))
        lens = np.array([true.cx, true.cy, np.log(true.fx), *true.k])
        assert np.allclose(plumb_line.rays(lens, pixels), true.unproject(pixels), atol=1e-5)


def test_frames_that_show_the_same_lower_no_uncertainty(known_lens):
    true, rng = known_lens("equidistant"), np.random.default_rng(0)
    once, other = street_lines(true, 2, rng), street_lines(true, 8, rng)
    start = np.array([true.cx, true.cy, np.log(true.fx), 0, 0, 0, 0])
    points = np.concatenate([once.points] * 4) + rng.normal(0, 0.1, (4 * len(once.points), POINTS, 2))
    again = Edges(points, np.concatenate([once.frame + 2 * i for i in range(4)]))
    deviation = [
        np.sqrt(plumb_line.fit(lines, start, expected_lens(SIZE, None)).covariance[2, 2])
        for lines in (once, again, other)
    ]
    assert deviation[1] > 0.8 * deviation[0], "the same streets four times"
    assert deviation[2] < 0.8 * deviation[0], "four times as many streets"
