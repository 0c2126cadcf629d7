"""The overlay estimated from frames whose overlay is known."""

import cv2
import numpy as np
import pytest

from lib.dataset import image_files, layout
from lib.errors import InputError
from lib.sample import RIGS, render
from lib.sample.weather import Weather
from lib.target.estimate_overlay import estimate_overlay


def overlap(found, truth):
    return (found & truth).sum() / (found | truth).sum()


def test_the_overlay_finds_what_stays_still(frames):
    paths, truth, still = frames
    found = estimate_overlay(paths)
    assert (found.mask & truth).sum() / (found.mask | truth).sum() > 0.95
    inside = found.mask & truth
    assert np.abs(found.image[inside].astype(int) - still[inside]).mean() < 2


def test_the_overlay_is_empty_where_everything_moves(tmp_path, textured):
    paths = [tmp_path / f"{i}.png" for i in range(12)]
    for i, path in enumerate(paths):
        image_files.write_png(path, textured(90, 160, seed=i))
    assert not estimate_overlay(paths).mask.any()


def test_the_overlay_names_frames_it_cannot_use(frames, tmp_path, textured):
    paths, _, _ = frames
    with pytest.raises(InputError, match="at least 2"):
        estimate_overlay(paths[:1])
    other = tmp_path / "other.png"
    image_files.write_png(other, textured(80, 160))
    with pytest.raises(InputError, match=r"other\.png: 160x80 px, but .* has 160x90"):
        estimate_overlay([*paths, other])


@pytest.mark.parametrize("kind", ["16-bit", "grey", "RGBA"])
def test_the_overlay_takes_frames_of_any_pixel_format(frames, kind):
    paths, truth, _ = frames
    for path in paths:
        image = cv2.imread(str(path))
        other = {
            "16-bit": lambda x: x.astype(np.uint16) * 257,
            "grey": lambda x: cv2.cvtColor(x, cv2.COLOR_BGR2GRAY),
            "RGBA": lambda x: cv2.cvtColor(x, cv2.COLOR_BGR2BGRA),
        }[kind](image)
        cv2.imwrite(str(path), other)
    assert overlap(estimate_overlay(paths).mask, truth) > 0.95


def test_frames_that_show_nothing_are_left_out(frames, tmp_path):
    paths, truth, _ = frames
    black = tmp_path / "black.png"
    image_files.write_png(black, np.zeros((90, 160, 3), np.uint8))
    assert overlap(estimate_overlay([black, *paths, black]).mask, truth) > 0.95
    with pytest.raises(InputError, match="1 of 3 target frames show anything"):
        estimate_overlay([black, paths[0], black])


def test_frames_that_are_all_the_same_have_no_overlay(frames):
    assert not estimate_overlay([frames[0][0]] * 6).mask.any()


OTHERS = ("small circle", "high hood")


def seen_by(name, size, count, folder):
    """Paths of frames that a rig of the sample took, and the truth."""
    rig, paths = RIGS[name], [folder / f"{i}.png" for i in range(count)]
    for i, path in enumerate(paths):
        image_files.write_png(path, render((5, i), rig.camera(size), rig.sensor, rig.overlay)[0])
    return paths, rig.overlay.mask(size)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_the_overlay_of_other_cameras_from_few_frames(name, tmp_path):
    paths, truth = seen_by(name, (240, 136), 16, tmp_path)
    assert overlap(estimate_overlay(paths).mask, truth) > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_a_sky_that_never_changes_is_no_overlay(name, tmp_path, monkeypatch):
    monkeypatch.setattr(Weather, "sky", lambda self, rays: np.full((rays.shape[1], 3), 0.6, np.float32))
    paths, truth = seen_by(name, (240, 136), 12, tmp_path)
    assert overlap(estimate_overlay(paths).mask, truth) > 0.93


def test_reflections_on_the_hood_are_overlay(tmp_path):
    paths, truth = seen_by("high hood", (240, 136), 12, tmp_path)
    rng, x = np.random.default_rng(0), np.arange(240)
    for path in paths:
        image = image_files.read_image(path).astype(float)
        image[truth] = (image * rng.uniform(0.92, 1.08) + 4 * np.sin(x / 20 + rng.uniform(0, 6))[:, None])[truth]
        image_files.write_png(path, image.clip(0, 255).round().astype(np.uint8))
    assert overlap(estimate_overlay(paths).mask, truth) > 0.95


def test_the_overlay_of_the_sample(sample):
    found = estimate_overlay([item.image for item in layout.read_split(sample, "train_target")])
    truth = image_files.read_label(sample / "withheld" / "overlay_mask.png") > 0
    assert overlap(found.mask, truth) > 0.93  # eight small frames
