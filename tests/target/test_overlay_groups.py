"""Target frames with several kinds of surroundings: found, kept apart, pasted in proportion."""

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

SIZE = (160, 90)


def texture(seed, cell=8):
    noise = np.random.default_rng(seed).uniform(20, 235, (90 // cell + 1, 160 // cell, 3)).astype(np.float32)
    return cv2.resize(noise, SIZE, interpolation=cv2.INTER_CUBIC).clip(0, 255)


def kind(number):
    """Mask and plate of two cars' surroundings: a low hood between dark sides, and a high hood."""
    mask = np.zeros(SIZE[::-1], bool)
    mask[70 - 12 * number :] = True
    if number == 0:
        mask[:, :14] = mask[:, -14:] = True
    return mask, texture(90 + number, 16) * (0.5, 0.9)[number]


def frames(number, count, folder, first=0, light=1.0, scene=None):
    """``count`` paths of frames of one kind; ``scene`` None: each shows another street."""
    mask, plate = kind(number)
    paths = []
    for i in range(first, first + count):
        rng = np.random.default_rng([number, i])
        street = texture(1000 * number + i if scene is None else scene)
        image = np.where(mask[..., None], plate, street) * light + rng.normal(0, 2, (*mask.shape, 3))
        paths.append(folder / f"{number}_{light}_{scene}_{i}.png")
        image_files.write_png(paths[-1], image.clip(0, 255).round().astype(np.uint8))
    return paths


def overlap(found, truth):
    return (found & truth).sum() / (found | truth).sum()


def test_frames_of_two_cars_are_told_apart(tmp_path):
    low, high = frames(0, 26, tmp_path), frames(1, 16, tmp_path)
    mixed = [*high[:8], *low[:20], *high[8:], *low[20:]]
    first, second = overlay_groups.estimate_overlays(mixed)
    assert set(first.paths) == set(low) and set(second.paths) == set(high)
    assert (first.share, second.share) == (26 / 42, 16 / 42)
    assert overlap(first.overlay.mask, kind(0)[0]) > 0.95 and overlap(second.overlay.mask, kind(1)[0]) > 0.95


@pytest.mark.parametrize("more", ["nothing", "standing", "dusk", "few others"])
def test_one_car_stays_one(tmp_path, more):
    own = frames(0, 30, tmp_path)
    own += {
        "nothing": list,
        "standing": lambda: frames(0, 20, tmp_path, scene=5),
        "dusk": lambda: frames(0, 20, tmp_path, first=50, light=0.55),
        "few others": lambda: frames(1, 5, tmp_path),
    }[more]()
    assert overlay_groups.group_frames(own) == [own]


def test_few_frames_are_one_group(tmp_path):
    paths = [*frames(0, 12, tmp_path), *frames(1, 11, tmp_path)]
    assert overlay_groups.group_frames(paths) == [paths]


def test_black_frames_belong_to_no_group(tmp_path):
    black = tmp_path / "black.png"
    image_files.write_png(black, np.zeros((*SIZE[::-1], 3), np.uint8))
    first, second = overlay_groups.group_frames([black, *frames(0, 14, tmp_path), black, *frames(1, 13, tmp_path)])
    assert (len(first), len(second)) == (14, 13)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A target that was seen with two kinds of surroundings, two thirds with the first; and its frames."""
    folder = tmp_path_factory.mktemp("two")
    paths = [*frames(0, 28, folder), *frames(1, 14, folder)]
    groups = overlay_groups.estimate_overlays(paths)
    found = [one.overlay for one in groups]
    looks = np.array([[[90] * 3, [30] * 3], [[160] * 3, [30] * 3]], np.float32), np.full((2, 72, 128, 3), 90, np.uint8)
    shares = tuple(one.share for one in groups)
    lens = Fisheye.from_fov(SIZE, 2.0)
    return TargetCamera(found[0], lens, None, *looks, "statistics", tuple(found[1:]), shares, np.array([0, 1]))


def test_a_frame_tells_which_surroundings_it_shows(two, tmp_path):
    for number in (0, 1):
        for path in frames(number, 3, tmp_path, first=70, light=0.8):
            large = cv2.resize(image_files.read_image(path), (400, 225))
            assert two.match_overlay(large) is two.overlays[number]


def test_each_image_gets_one_kind_as_often_as_it_was_seen(two):
    image, label = np.full((90, 160, 3), 120, np.uint8), np.zeros((90, 160), np.uint8)
    rng, counts, masks = np.random.default_rng(0), [0, 0], [one.mask for one in two.overlays]
    for i in range(120):
        region = None if i % 2 else (20, 10, 100, 75)  # a crop, as training makes it
        view = (slice(None), slice(None)) if i % 2 else (slice(10, 85), slice(20, 120))
        bent = two.transform(image, label, AugmentParams.sample(rng), region)[1] == BACKGROUND
        counts[[(bent == mask[view]).all() for mask in masks].index(True)] += 1
    assert 0.52 < counts[0] / sum(counts) < 0.82


def test_an_image_takes_the_colours_of_a_frame_with_its_surroundings(two):
    assert [two._frame(place, which) for which in (0, 1) for place in (0.0, 0.99)] == [0, 0, 1, 1]


def test_several_kinds_are_read_as_they_were_written(two, tmp_path):
    two.write(tmp_path)
    again = TargetCamera.read(tmp_path)
    assert again.overlay_shares == two.overlay_shares and (again.frame_overlays == two.frame_overlays).all()
    for a, b in zip(again.overlays, two.overlays, strict=True):
        assert (a.mask == b.mask).all() and (a.image == b.image).all() and (a.noise, a.gains) == (b.noise, b.gains)
    small = again.scaled((80, 45))
    assert [one.mask.shape for one in small.overlays] == [(45, 80)] * 2


def test_augmented_images_show_both_kinds(sample, tmp_path):
    import shutil

    data = tmp_path / "data"
    shutil.copytree(sample, data)
    (data / "own").mkdir()
    paths = [*frames(0, 16, data / "own"), *frames(1, 14, data / "own")]
    rows = "".join(f"T_{i},./own/{path.name}\n" for i, path in enumerate(paths))
    (data / "train_target.csv").write_text("id,img_path\n" + rows)
    folder = augment(AugmentOptions(data=data, out=tmp_path / "run", lens="random", copies=2))
    masks = [image_files.read_label(folder / f"overlay_mask{end}.png") > 0 for end in ("", "_1")]
    shown = [image_files.read_label(item.label) == BACKGROUND for item in layout.read_split(folder, "train_source")]
    counts = [sum((one == mask).all() for one in shown) for mask in masks]
    assert sum(counts) == len(shown) == 12 and min(counts) >= 2
