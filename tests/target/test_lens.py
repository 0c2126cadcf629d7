"""The lens found in frames whose lens is known: in lines alone, in drawn edges, in rendered streets."""

from dataclasses import replace

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pytest

from lib.camera.models import Fisheye, Pinhole
from lib.dataset import image_files, layout
from lib.errors import InputError
from lib.sample import SOURCE_SENSOR, TARGET_SENSOR, CameraOverlay, render
from lib.target import edges, image_circle, lens, plumb_line
from lib.target.overlay import Overlay

SIZE = (480, 270)
LENSES = {  # half the width in rad, k
    "equidistant": (1.3, (0.0, 0.0, 0.0, 0.0)),
    "equisolid": (1.5, (-1 / 24, 1 / 1920, 0.0, 0.0)),
    "stereographic": (1.1, (1 / 12, 1 / 120, 17 / 20160, 0.0)),
}


def camera(name, size=SIZE, off=(5.0, -4.0)):
    half, k = LENSES[name]
    lens = Fisheye.from_fov(size, 2 * half, k)
    return replace(lens, cx=lens.cx + off[0], cy=lens.cy + off[1])


def free_view(size=SIZE):
    width, height = size
    return Overlay(
        np.zeros((height, width), bool), np.zeros((height, width, 3), np.uint8), np.ones((height, width), np.float32)
    )


def error(found, true, seen):
    """Mean distance (pixels) between where the two cameras see the rays of the ``seen`` pixels."""
    y, x = np.nonzero(seen)
    pixels = np.stack([x, y], axis=-1)[::11].astype(float)
    far = np.linalg.norm(found.project(true.unproject(pixels)) - pixels, axis=-1)
    assert np.isfinite(far).all()
    return far.mean()


def street_lines(true, frames, rng, bent=0.2):
    """Points on lines of right-angled streets as ``true`` sees them, with noise, some of them on bends."""
    points, frame = [], []
    for number in range(frames):
        yaw, tilt = rng.normal(0, 0.3), rng.normal(0, 0.04)
        down, ahead = np.array([0, np.cos(tilt), np.sin(tilt)]), np.array([0, -np.sin(tilt), np.cos(tilt)])
        right = np.array([1.0, 0, 0])
        ways = [down, np.cos(yaw) * ahead + np.sin(yaw) * right, np.cos(yaw) * right - np.sin(yaw) * ahead]
        while frame.count(number) < 40:
            start = true.unproject(rng.uniform((0.02, 0.02), (0.98, 0.85)) * SIZE)
            line = start + np.linspace(-1, 1, edges.POINTS)[:, None] * rng.uniform(0.1, 0.4) * ways[rng.integers(3)]
            pixels = true.project(line)
            if not ((pixels > 3) & (pixels < np.array(SIZE) - 4)).all() or np.ptp(pixels, axis=0).max() < 20:
                continue
            if rng.random() < bent:
                x, y = pixels[-1] - pixels[0]
                pixels = pixels + np.linspace(-1, 1, edges.POINTS)[:, None] ** 2 * rng.normal(0, 0.1) * (-y, x)
            points.append(pixels + rng.normal(0, 0.15, pixels.shape))
            frame.append(number)
    return plumb_line.Edges(np.array(points), np.array(frame))


@pytest.mark.parametrize("name", LENSES)
def test_lines_tell_the_lens(name):
    true = camera(name)
    lines = street_lines(true, 15, np.random.default_rng(3))
    expected = lens.prior(SIZE, None)
    tries = [plumb_line.fit(lines, expected.mean + step * np.eye(7)[2], expected) for step in (-0.25, 0, 0.25)]
    best = min(tries, key=lambda one: one.cost)
    cx, cy, log_focal, *k = best.lens
    found = Fisheye(*SIZE, np.exp(log_focal), np.exp(log_focal), cx, cy, tuple(k))
    assert error(found, true, np.ones(SIZE[::-1])) < 2
    assert np.abs(found.cx - true.cx) < 1 and np.abs(found.cy - true.cy) < 1
    assert 0.1 < (best.weight < 0.25).mean() < 0.3, "bends are set aside, lines are not"


def test_the_right_angles_of_streets_are_found_again():
    true = camera("equidistant")
    lines = street_lines(true, 6, np.random.default_rng(0), bent=0)
    start = np.array([true.cx, true.cy, np.log(true.fx), 0, 0, 0, 0])
    found = plumb_line.fit(lines, start, lens.prior(SIZE, None))
    assert (found.kind < 3).mean() > 0.9
    down = found.directions[:, 0]
    assert (down[:, 1] > 0.98).all() and np.allclose(np.linalg.norm(down, axis=1), 1)


def test_a_table_of_rays_agrees_with_the_camera():
    for name in LENSES:
        true = camera(name)
        pixels = np.random.default_rng(0).uniform((0, 0), SIZE, (500, 2))
        lens = np.array([true.cx, true.cy, np.log(true.fx), *true.k])
        assert np.allclose(plumb_line.rays(lens, pixels), true.unproject(pixels), atol=1e-5)


def test_edges_lie_where_they_were_drawn():
    x, y = np.meshgrid(np.arange(480.0), np.arange(270.0))
    slope = np.radians(17)
    away = (y - 60.3) * np.cos(slope) - (x - 20) * np.sin(slope)  # pixels from a straight edge
    image = 90 + 100 * np.clip(away + 0.5, 0, 1)[..., None] + np.random.default_rng(0).normal(0, 3, (270, 480, 3))
    found = edges.find_edges(image.clip(0, 255).astype(np.uint8), np.ones((270, 480), bool), 20, 50)
    off = (found[..., 1] - 60.3) * np.cos(slope) - (found[..., 0] - 20) * np.sin(slope)
    assert np.linalg.norm(found[:, -1] - found[:, 0], axis=1).sum() > 0.9 * 480
    assert np.abs(off).mean() < 0.1


def test_edges_are_looked_for_in_view_only():
    image = cv2.resize(np.random.default_rng(0).integers(0, 255, (9, 16, 3), dtype=np.uint8), SIZE, interpolation=0)
    view = np.zeros(SIZE[::-1], bool)
    assert len(edges.find_edges(image, view, 20, 50)) == 0
    view[:, :240] = True
    found = edges.find_edges(image, view, 20, 50)
    assert len(found) and found[..., 0].max() < 241


def test_the_image_circle_is_found_beside_the_hood():
    surroundings = CameraOverlay(circle=0.7, centre=(0.03, -0.02))
    found = image_circle.find_image_circle(surroundings.hidden((960, 540)), SIZE)
    truth = (239.5 + 0.03 * 270, 134.5 - 0.02 * 270, 0.7 * 270)
    assert np.allclose((found.x, found.y, found.radius), truth, atol=2)
    assert image_circle.find_image_circle(CameraOverlay(circle=2).mask(SIZE), SIZE) is None, "a hood is no circle"
    assert image_circle.find_image_circle(np.zeros((270, 480), bool), SIZE) is None
    assert image_circle.find_image_circle(np.ones((270, 480), bool), SIZE) is None


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    """Twelve rendered streets through a lens far from the expected one, and what hides part of the view."""
    true = camera("equisolid", off=(5.0, 4.0))
    surroundings = CameraOverlay(circle=2.0)
    folder = tmp_path_factory.mktemp("drive")
    paths = [folder / f"{i}.png" for i in range(12)]
    for i, path in enumerate(paths):
        image_files.write_png(path, render((5, i), true, TARGET_SENSOR, surroundings)[0])
    mask = surroundings.mask(SIZE)
    return paths, replace(free_view(), mask=mask), true


def test_rendered_streets_tell_the_lens(drive):
    paths, still, true = drive
    found = lens.estimate_lens(paths, still)
    assert (found.camera.width, found.camera.height) == SIZE
    assert error(found.camera, true, ~still.mask) < 5
    assert error(lens.default_lens(still), true, ~still.mask) > 15
    assert found.confidence > 0.5 and 0 < found.shape_error <= found.error
    assert "edges straightened" in found.report
    again = lens.estimate_lens(paths, still)
    assert again.camera == found.camera, "nothing is left to chance"
    figure = found.figure()
    assert len(figure.axes) == 6
    plt.close(figure)


def test_large_frames_give_the_same_lens_at_their_own_size(drive, tmp_path):
    paths, still, true = drive
    large = []
    for path in paths[:4]:
        image = cv2.resize(image_files.read_image(path), (1440, 810), interpolation=cv2.INTER_CUBIC)
        large.append(tmp_path / path.name)
        image_files.write_png(large[-1], image)
    mask = cv2.resize(still.mask.astype(np.uint8), (1440, 810)) > 0
    found = lens.estimate_lens(large, replace(still, mask=mask))
    assert (found.camera.width, found.camera.height) == (1440, 810)
    assert error(found.camera, true.scaled((1440, 810)), ~mask) < 30


def test_one_frame_is_enough_to_answer(drive):
    paths, still, _ = drive
    found = lens.estimate_lens(paths[:1], still)
    assert 0 <= found.confidence <= 1 and np.isfinite(found.error)
    assert np.isfinite(found.camera.rays()[~still.mask]).all()


@pytest.mark.parametrize("picture", ["black", "noise"])
def test_frames_without_evidence_give_the_expected_lens(picture, tmp_path):
    rng, still = np.random.default_rng(0), free_view()
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path in paths:
        image = rng.integers(0, 256, (270, 480, 3)) if picture == "noise" else np.zeros((270, 480, 3))
        image_files.write_png(path, image.astype(np.uint8))
    found = lens.estimate_lens(paths, still)
    assert found.camera == lens.default_lens(still)
    assert found.confidence == 0 and "guess" in found.report
    plt.close(found.figure())


@pytest.mark.parametrize("degrees", [50, 90])
def test_right_angles_tell_what_an_undistorted_camera_sees(degrees, tmp_path):
    camera = Pinhole.from_fov(SIZE, np.radians(degrees))
    paths = [tmp_path / f"{i}.png" for i in range(12)]
    for i, path in enumerate(paths):
        image_files.write_png(path, render((5, i), camera, SOURCE_SENSOR)[0])
    found = lens.estimate_field_of_view(paths)
    # Twelve images tell it to some percent; on another processor another few edges are found.
    assert found.angle == pytest.approx(np.radians(degrees), rel=0.06) and found.fitted
    assert 0 < found.deviation < 0.1 and "edges straightened" in found.report
    odd = tmp_path / "odd.png"
    image_files.write_png(odd, np.zeros((80, 160, 3), np.uint8))
    assert lens.estimate_field_of_view([paths[0], odd]).angle == lens.estimate_field_of_view(paths[:1]).angle


def test_source_images_without_evidence_give_an_ordinary_view(tmp_path):
    path = tmp_path / "black.png"
    image_files.write_png(path, np.zeros((270, 480, 3), np.uint8))
    found = lens.estimate_field_of_view([path])
    assert not found.fitted and 60 < np.degrees(found.angle) < 75 and "it is a guess" in found.report
    with pytest.raises(InputError, match="at least 1"):
        lens.estimate_field_of_view([])


def test_the_sample_at_its_smallest_does_not_fail(sample):
    from lib.target import overlay

    paths = [item.image for item in layout.read_split(sample, "train_target")]
    found = lens.estimate_lens(paths, overlay.estimate_overlay(paths))
    assert 0 <= found.confidence <= 1


def test_unusable_frames_are_named(drive, tmp_path):
    paths, still, _ = drive
    with pytest.raises(InputError, match="at least 1"):
        lens.estimate_lens([], still)
    other = tmp_path / "other.png"
    image_files.write_png(other, np.zeros((80, 160, 3), np.uint8))
    with pytest.raises(InputError, match=r"other\.png: 160x80 px, but the background is 480x270"):
        lens.estimate_lens([*paths[:2], other], still)
    with pytest.raises(InputError, match="cover the whole image"):
        lens.estimate_lens(paths, replace(still, mask=np.ones_like(still.mask)))
