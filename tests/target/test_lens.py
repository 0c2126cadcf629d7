"""The lens estimated from rendered streets whose lens is known."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from lib.dataset import image_files, layout
from lib.errors import InputError
from lib.sample import TARGET_SENSOR, CameraOverlay, render
from lib.target.estimate_overlay import estimate_overlay
from lib.target.lens import default_lens, estimate_lens

SIZE = (480, 270)


@pytest.fixture(scope="module")
def drive(tmp_path_factory, known_lens, empty_overlay):
    """Twelve rendered streets through a lens far from the expected one, and the camera's overlay."""
    true = known_lens("equisolid", off=(5.0, 4.0))
    overlay = CameraOverlay(circle=2.0)
    folder = tmp_path_factory.mktemp("drive")
    paths = [folder / f"{i}.png" for i in range(12)]
    for i, path in enumerate(paths):
        image_files.write_png(path, render((5, i), true, TARGET_SENSOR, overlay)[0])
    mask = overlay.mask(SIZE)
    return paths, replace(empty_overlay, mask=mask), true


@pytest.mark.slow
def test_rendered_streets_determine_the_lens(drive, pixel_error):
    paths, still, true = drive
    found = estimate_lens(paths, still)
    assert (found.camera.width, found.camera.height) == SIZE
    assert pixel_error(found.camera, true, ~still.mask) < 5
    assert pixel_error(default_lens(still), true, ~still.mask) > 15
    assert found.confidence > 0.5 and 0 < found.shape_error <= found.error
    assert "edges straightened" in found.report
    again = estimate_lens(paths, still)
    assert again.camera == found.camera, "nothing is left to chance"


def test_large_frames_give_the_same_lens_at_their_own_size(drive, tmp_path, pixel_error):
    paths, still, true = drive
    large = []
    for path in paths[:4]:
        image = cv2.resize(image_files.read_image(path), (1440, 810), interpolation=cv2.INTER_CUBIC)
        large.append(tmp_path / path.name)
        image_files.write_png(large[-1], image)
    mask = cv2.resize(still.mask.astype(np.uint8), (1440, 810)) > 0
    found = estimate_lens(large, replace(still, mask=mask))
    assert (found.camera.width, found.camera.height) == (1440, 810)
    assert pixel_error(found.camera, true.scaled((1440, 810)), ~mask) < 30


@pytest.mark.slow
def test_repeated_frames_change_neither_lens_nor_error(drive):
    paths, still, _ = drive
    once, again = estimate_lens(paths[:3], still), estimate_lens(paths[:3] * 12, still)
    assert (again.camera, again.error, again.confidence) == (once.camera, once.error, once.confidence)
    assert "33 of them repeated" in again.report and "repeated" not in once.report


@pytest.mark.slow
def test_the_true_error_lies_within_the_stated_one(drive):
    paths, still, true = drive
    y, x = np.nonzero(~still.mask)
    pixels = np.stack([x, y], axis=-1)[::11].astype(float)
    stated = []
    for chosen in (paths[:1], paths[:3], paths[3:7], paths):
        found = estimate_lens(chosen, still)
        far = np.linalg.norm(found.camera.project(true.unproject(pixels)) - pixels, axis=-1)
        assert np.sqrt((far**2).mean()) <= found.error
        stated.append(found.error)
    assert stated[0] > stated[1] > stated[3]


def test_one_frame_is_enough_to_answer(drive):
    paths, still, _ = drive
    found = estimate_lens(paths[:1], still)
    assert 0 <= found.confidence <= 1 and np.isfinite(found.error)
    assert np.isfinite(found.camera.rays()[~still.mask]).all()


@pytest.mark.parametrize("picture", ["black", "noise"])
def test_frames_without_evidence_give_the_expected_lens(picture, tmp_path, empty_overlay):
    rng, still = np.random.default_rng(0), empty_overlay
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path in paths:
        image = rng.integers(0, 256, (270, 480, 3)) if picture == "noise" else np.zeros((270, 480, 3))
        image_files.write_png(path, image.astype(np.uint8))
    found = estimate_lens(paths, still)
    assert found.camera == default_lens(still)
    assert found.confidence == 0 and "guess" in found.report


def test_the_sample_at_its_smallest_does_not_fail(sample):
    paths = [item.image for item in layout.read_split(sample, "train_target")]
    found = estimate_lens(paths, estimate_overlay(paths))
    assert 0 <= found.confidence <= 1


def test_unusable_frames_are_named(drive, tmp_path):
    paths, still, _ = drive
    with pytest.raises(InputError, match="at least 1"):
        estimate_lens([], still)
    other = tmp_path / "other.png"
    image_files.write_png(other, np.zeros((80, 160, 3), np.uint8))
    with pytest.raises(InputError, match=r"other\.png: 160x80 px, but the overlay is 480x270"):
        estimate_lens([*paths[:2], other], still)
    with pytest.raises(InputError, match="lens: the overlay covers the whole image"):
        estimate_lens(paths, replace(still, mask=np.ones_like(still.mask)))
