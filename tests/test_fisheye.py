"""Warp and background, on images whose truth is known."""

import numpy as np
import pytest

from lib import dataset
from lib.classes import BACKGROUND, IGNORE, ROAD
from lib.fisheye import background, warp
from lib.fisheye.cameras import Fisheye, Pinhole
from lib.runs import InputError


def textured(height, width, seed=0):
    """A smooth random picture, so that a sub-pixel shift changes little."""
    import cv2

    noise = np.random.default_rng(seed).uniform(0, 255, (height // 8, width // 8, 3)).astype(np.float32)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def test_warping_into_the_same_camera_changes_nothing():
    camera = Pinhole.from_fov((64, 48), 1.0)
    image = textured(48, 64)
    label = np.random.default_rng(0).integers(0, 12, (48, 64)).astype(np.uint8)
    table = warp.remap_table(camera, camera)
    assert warp.covered(table).all()
    assert np.abs(warp.warp_image(image, table).astype(int) - image).max() <= 1
    assert (warp.warp_label(label, table) == label).all()


def test_a_pixel_goes_where_its_ray_says():
    source, target = Pinhole.from_fov((201, 101), 1.2), Fisheye.from_fov((121, 81), 1.2, (0.02, 0.0, 0.0, 0.0))
    turn = warp.rotation(yaw=0.1, pitch=-0.05, roll=0.2)
    table = warp.remap_table(target, source, turn)
    x, y = 70, 33
    assert np.allclose(table[y, x], source.project(turn @ target.unproject([x, y])), atol=0.05)
    label = np.zeros((101, 201), dtype=np.uint8)
    column, row = table[y, x].round().astype(int)
    label[row, column] = ROAD + 1
    assert warp.warp_label(label, table)[y, x] == ROAD + 1


def test_turning_moves_the_view_the_right_way():
    camera = Pinhole.from_fov((101, 101), 1.0)
    centre = (50, 50)
    right = warp.remap_table(camera, camera, warp.rotation(yaw=0.1))[centre]
    up = warp.remap_table(camera, camera, warp.rotation(pitch=0.1))[centre]
    assert right[0] > 50 and right[1] == pytest.approx(50, abs=1e-3)
    assert up[1] < 50 and up[0] == pytest.approx(50, abs=1e-3)
    # Turned clockwise, what was to the right of the centre appears above the right.
    assert warp.remap_table(camera, camera, warp.rotation(roll=0.1))[50, 80][1] > 50


def test_what_the_source_does_not_see_is_ignored_and_black():
    narrow, wide = Pinhole.from_fov((64, 48), 0.8), Fisheye.from_fov((64, 48), 2.5)
    table = warp.remap_table(wide, narrow)
    unseen = ~warp.covered(table)
    assert 0.3 < unseen.mean() < 1
    assert (warp.warp_label(np.full((48, 64), ROAD, np.uint8), table)[unseen] == IGNORE).all()
    assert (warp.warp_image(np.full((48, 64, 3), 200, np.uint8), table)[unseen] == 0).all()


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
        dataset.write_png(path, (image + rng.normal(0, 2, image.shape)).clip(0, 255).astype(np.uint8))
        paths.append(path)
    return paths, truth, still


def test_background_finds_what_stays_still(frames):
    paths, truth, still = frames
    found = background.mine(paths)
    assert (found.mask & truth).sum() / (found.mask | truth).sum() > 0.95
    inside = found.mask & truth
    assert np.abs(found.plate[inside].astype(int) - still[inside]).mean() < 2


def test_background_is_empty_where_everything_moves(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(12)]
    for i, path in enumerate(paths):
        dataset.write_png(path, textured(90, 160, seed=i))
    assert not background.mine(paths).mask.any()


def test_pasting_labels_the_background_and_leaves_the_rest(frames):
    paths, _, _ = frames
    found = background.mine(paths)
    image, label = textured(90, 160, seed=7), np.full((90, 160), ROAD, np.uint8)
    pasted, labelled = found.paste(image, label)
    assert (labelled[found.mask] == BACKGROUND).all() and (labelled[~found.mask] == ROAD).all()
    assert (pasted[~found.mask] == image[~found.mask]).all()
    assert (label == ROAD).all(), "the input is not changed"


def test_background_names_frames_it_cannot_use(frames, tmp_path):
    paths, _, _ = frames
    with pytest.raises(InputError, match="at least 2"):
        background.mine(paths[:1])
    other = tmp_path / "other.png"
    dataset.write_png(other, textured(80, 160))
    with pytest.raises(InputError, match=r"other\.png: 160x80 px, but .* has 160x90"):
        background.mine([*paths, other])


def test_background_of_the_sample(sample):
    found = background.mine([item.image for item in dataset.read_split(sample, "train_target")])
    truth = dataset.read_label(sample / "withheld" / "background.png") > 0
    assert (found.mask & truth).sum() / (found.mask | truth).sum() > 0.85  # eight small frames
