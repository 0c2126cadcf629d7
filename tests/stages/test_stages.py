"""The stages on a tiny data set: real training in a child process, kills and resumptions, refusals."""

import shutil

import cv2
import numpy as np
import pytest

from lib.dataset import image_files, layout
from lib.dataset.classes import BACKGROUND, CLASSES_WITH_BACKGROUND, IGNORE
from lib.errors import InputError
from lib.files import read_yaml
from lib.run import Run
from lib.stages.augment import AugmentOptions, augment
from lib.synthesis.params import AugmentParams
from lib.synthesis.target_camera import TargetCamera
from lib.target.overlay import Overlay
from tests.builders import kill_when, start, tree

# 01


def test_augmented_images_look_like_targets(sample, augmented):
    folder = augmented / "augmented"
    for split, count in (("train_source", 6), ("val_source", 2)):
        items = layout.read_split(folder, split)
        assert len(items) == count
        for item in items:
            label = image_files.read_label(item.label)
            assert label.shape == (108, 192) == image_files.read_image(item.image).shape[:2]
            assert (label == BACKGROUND).mean() > 0.05
    mask, plate = (
        image_files.read_label(folder / "overlay_mask.png") > 0,
        image_files.read_image(folder / "overlay.png"),
    )
    mask = cv2.erode(mask.astype(np.uint8), np.ones((5, 5))) > 0  # its edge is soft
    off = image_files.read_image(items[0].image)[mask].astype(float) - plate[mask]  # but for noise and compression
    assert np.abs(off).mean() < 8
    layout.check(folder, ("train_source", "val_source"), classes=len(CLASSES_WITH_BACKGROUND))


def test_the_same_seed_gives_the_same_files(sample, augmented, tmp_path):
    augment(AugmentOptions(data=sample, out=tmp_path / "same", seed=1))
    assert tree(tmp_path / "same" / "augmented") == tree(augmented / "augmented")
    augment(AugmentOptions(data=sample, out=tmp_path / "other", seed=2))
    assert tree(tmp_path / "other" / "augmented") != tree(augmented / "augmented")


def test_overwriting_makes_the_set_anew(sample, augmented, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(augmented, out)
    with pytest.raises(InputError, match="seed: 1 there, 2 now"):
        augment(AugmentOptions(data=sample, out=out, seed=2))
    augment(AugmentOptions(data=sample, out=out, seed=2, overwrite=True))
    assert len(layout.read_split(out / "augmented", "train_source")) == 6
    assert tree(out / "augmented") != tree(augmented / "augmented")


@pytest.mark.slow
def test_killed_augmentation_ends_with_the_same_files(sample, augmented, tmp_path):
    out = tmp_path / "killed"
    process = start(
        "from lib.stages.augment import AugmentOptions, augment; "
        f"augment(AugmentOptions(data={str(sample)!r}, out={str(out)!r}, seed=1))"
    )
    kill_when(process, lambda: any(out.glob("augmented/train_source_gt/*.png")))
    assert Run(out).entry("augment") is None
    for half in out.rglob("*.png"):
        if not half.name.startswith("."):
            image_files.read_label(half) if "gt" in half.parent.name else image_files.read_image(half)
    augment(AugmentOptions(data=sample, out=out, seed=1))
    assert {k: v for k, v in tree(out / "augmented").items() if ".tmp" not in k} == tree(augmented / "augmented")


def test_known_cameras_bend_the_source_exactly():
    """Bending what a pinhole saw of a street gives what the fisheye sees of the same street."""
    from lib.sample import render, source_camera, target_camera

    source, target = source_camera((640, 360)), target_camera((320, 180))
    image, label = render(5, source)
    truth = render(5, target)[1]
    nothing = Overlay(np.zeros((180, 320), bool), np.zeros((180, 320, 3), np.uint8), np.zeros((180, 320), np.float32))
    knowing = TargetCamera(
        nothing, target, source, np.zeros((1, 2, 3)), np.zeros((1, 72, 128, 3)), "none", mirror=False
    )
    _, bent = knowing.transform(image, label, AugmentParams.neutral())
    seen = bent != IGNORE
    assert 0.1 < seen.mean() < 0.9
    assert (bent == truth)[seen].mean() > 0.96


def test_known_cameras_are_read_and_described(sample, tmp_path, capsys):
    augment(AugmentOptions(data=sample, out=tmp_path, cameras_file=sample / "withheld" / "cameras.yaml", copies=2))
    assert len(layout.read_split(tmp_path / "augmented", "train_source")) == 12
    described = read_yaml(tmp_path / "augmented" / "camera.yaml")
    assert described["source"]["model"] == "Pinhole" and described["target"]["model"] == "Fisheye"
    assert read_yaml(tmp_path / "run.yaml")["augment"]["results"]["source_covers"] == [0.269, 0.269]
    assert "the source covers 27% of the target's middle" in capsys.readouterr().out


def test_augmented_images_take_on_the_targets_colours(sample, augmented, tmp_path):
    augment(AugmentOptions(data=sample, out=tmp_path, seed=1, appearance="none"))
    frames = [image_files.read_image(item.image) for item in layout.read_split(sample, "train_target")]
    view = image_files.read_label(augmented / "augmented" / "overlay_mask.png") == 0

    def distance(folder):
        images = [
            image_files.read_image(item.image) for item in layout.read_split(folder / "augmented", "train_source")
        ]
        return np.abs(
            np.mean([i[view].mean(0) for i in images], 0) - np.mean([f[view].mean(0) for f in frames], 0)
        ).max()

    assert distance(augmented) < 0.6 * distance(tmp_path)


def test_without_augmentation_the_source_is_only_resized(sample, tmp_path):
    augment(AugmentOptions(data=sample, out=tmp_path, augment=False))
    item = layout.read_split(tmp_path / "augmented", "val_source")[0]
    before = layout.read_split(sample, "val_source")[0]
    size = image_files.read_image(layout.read_split(sample, "train_target")[0].image).shape[1::-1]
    resized = cv2.resize(image_files.read_label(before.label), size, interpolation=cv2.INTER_NEAREST_EXACT)
    assert (image_files.read_label(item.label) == resized).all()
    assert not (image_files.read_label(item.label) == BACKGROUND).any()


def test_faulty_camera_files_are_named(sample, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        augment(AugmentOptions(data=sample, out=tmp_path / "a", cameras_file=tmp_path / "gone.yaml"))
    (tmp_path / "half.yaml").write_text("source: {model: Pinhole}\n")
    with pytest.raises(InputError, match="expected: a camera under `source` and one under `target`|fields"):
        augment(AugmentOptions(data=sample, out=tmp_path / "b", cameras_file=tmp_path / "half.yaml"))
