"""The built-in data set: layout, classes, determinism, and two cameras in the same scene."""

import csv
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from lib.camera.models import Fisheye, Pinhole, from_dict
from lib.dataset.classes import BACKGROUND, CLASSES, CONSTRUCTION, NATURE, ROAD, SKY
from lib.errors import InputError
from lib.files import read_yaml
from lib.sample import CameraOverlay, Sensor, render, source_camera, target_camera, write

COUNTS = {"source": 24, "val": 8, "target": 6, "test": 6}
SIZE, SOURCE_SIZE = (192, 108), (224, 112)
LABELS = ("train_source_gt", "val_source_gt", "withheld/train_target_gt", "withheld/test_gt")
IMAGES = ("train_source_image", "val_source_image", "train_target_image", "test_image")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("sample") / "data", **COUNTS, size=SIZE, source_size=SOURCE_SIZE)


def stack(folder: Path) -> np.ndarray:
    return np.stack([cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(folder.glob("*.png"))])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def shares(labels: np.ndarray) -> np.ndarray:
    """(images, classes): share of each image's pixels."""
    return np.stack([np.bincount(label.ravel(), minlength=BACKGROUND + 1) / label.size for label in labels])


def test_tables_name_every_file_by_its_id(data):
    tables = ("train_source", "val_source", "train_target", "test")
    for table, count in zip(tables, COUNTS.values(), strict=True):
        rows = list(csv.DictReader((data / f"{table}.csv").open()))
        assert len(rows) == count
        columns = ["id", "img_path", "gt_path"][: 3 if "source" in table else 2]
        assert all(list(row) == columns for row in rows)
        for row in rows:
            assert all(row[c].startswith("./") and (data / row[c]).stem == row["id"] for c in columns[1:])
            assert all((data / row[c]).is_file() for c in columns[1:])
    assert (data / "train_source_gt" / "TRAIN_SOURCE_0023.png").is_file()
    assert (data / "val_source_image" / "VALID_SOURCE_007.png").is_file()
    assert (data / "withheld" / "train_target_gt" / "TRAIN_TARGET_0005.png").is_file()


def test_sample_submission_has_every_class_of_every_test_image(data):
    rows = list(csv.DictReader((data / "sample_submission.csv").open()))
    assert [row["id"] for row in rows] == [f"TEST_{i:04d}_class_{c}" for i in range(6) for c in range(len(CLASSES))]
    assert {row["mask_rle"] for row in rows} == {"-1"}


def test_images_are_rgb_and_labels_class_ids(data):
    for images, labels in zip(IMAGES, LABELS, strict=True):
        width, height = SOURCE_SIZE if "source" in labels else SIZE
        image, label = stack(data / images), stack(data / labels)
        assert image.dtype == label.dtype == np.uint8
        assert image.shape[1:] == (height, width, 3)
        assert label.shape == image.shape[:-1]
        allowed = range(len(CLASSES)) if "source" in labels else range(BACKGROUND + 1)
        assert set(np.unique(label)) <= set(allowed)


def test_every_class_is_in_every_part(data):
    for labels in LABELS:
        present = np.unique(stack(data / labels))
        assert not [name for i, name in enumerate(CLASSES) if i not in present], labels


def test_no_class_of_the_source_is_too_rare_to_learn(data):
    per_image = shares(stack(data / "train_source_gt"))[:, : len(CLASSES)]
    rare = {name: s for name, s in zip(CLASSES, per_image.mean(axis=0), strict=True) if s < 0.002}
    assert not rare
    seldom = {name: s for name, s in zip(CLASSES, (per_image > 1.5e-4).mean(axis=0), strict=True) if s < 0.25}
    assert not seldom
    assert per_image[:, [ROAD, SKY, CONSTRUCTION, NATURE]].sum(axis=1).mean() > 0.6


def test_regions_are_not_always_in_the_same_place(data):
    labels = stack(data / "train_source_gt")
    for name in (ROAD, SKY):
        often = (labels == name).mean(axis=0)
        assert ((often > 0.1) & (often < 0.9)).mean() > 0.15


def test_colour_alone_does_not_tell_the_class(data):
    def cells(folder):
        r, g, b = np.moveaxis(stack(data / folder) >> 4, -1, 0).astype(int)
        return (r * 256 + g * 16 + b).ravel()

    votes = np.zeros((16**3, len(CLASSES)))
    np.add.at(votes, (cells("train_source_image"), stack(data / "train_source_gt").ravel()), 1)
    guess, truth = votes.argmax(axis=1)[cells("val_source_image")], stack(data / "val_source_gt").ravel()
    iou = [((guess == c) & (truth == c)).sum() / ((guess == c) | (truth == c)).sum() for c in range(len(CLASSES))]
    assert np.mean(iou) < 0.3


def test_an_image_depends_on_seed_split_and_number_alone(data, tmp_path):
    other = write(tmp_path / "other", source=2, val=1, target=2, test=1, size=SIZE, source_size=SOURCE_SIZE)
    ours, theirs = contents(data), contents(other)
    pictures = [name for name in theirs if name.endswith(".png")]
    assert len(pictures) == 2 * 6 + 1
    assert all(ours[name] == theirs[name] for name in pictures)
    reseeded = write(tmp_path / "seed", source=1, val=0, target=0, test=0, size=SIZE, source_size=SOURCE_SIZE, seed=1)
    name = "train_source_image/TRAIN_SOURCE_0000.png"
    assert ours[name] != (reseeded / name).read_bytes()
    drawn = [
        data / f"{folder}/{image}.png"
        for folder, image in (("train_source_image", "TRAIN_SOURCE_0000"), ("val_source_image", "VALID_SOURCE_000"))
    ]
    assert drawn[0].read_bytes() != drawn[1].read_bytes()


def test_a_killed_run_continues_to_the_same_files(data, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(data, copy)
    lost = [
        "train_source_image/TRAIN_SOURCE_0003.png",
        "withheld/test_gt/TEST_0002.png",
        "test.csv",
        "train_target_image/TRAIN_TARGET_0001.png",
        "withheld/overlay_mask.png",
    ]
    for name in lost:
        (copy / name).unlink()
    kept = copy / "train_source_image" / "TRAIN_SOURCE_0004.png"
    before = kept.stat().st_mtime_ns
    write(copy, **COUNTS, size=SIZE, source_size=SOURCE_SIZE)
    assert contents(copy) == contents(data)
    assert kept.stat().st_mtime_ns == before


def test_other_parameters_need_overwrite(tmp_path):
    few = {"source": 1, "val": 0, "target": 0, "test": 0, "size": (32, 18)}
    out = write(tmp_path / "set", **few)
    with pytest.raises(InputError, match="seed: 0 there, 1 now"):
        write(out, **few, seed=1)
    write(out, **few, seed=1, overwrite=True)
    assert read_yaml(out / "parameters.yaml")["seed"] == 1


@pytest.mark.parametrize("wrong", [{"source": -1}, {"seed": -1}, {"size": (480, 9)}])
def test_parameters_out_of_range_are_refused_before_anything_is_written(tmp_path, wrong):
    with pytest.raises(InputError, match="must be 0 or more"):
        write(tmp_path / "set", **wrong)
    assert not (tmp_path / "set").exists()


def test_the_overlay_is_the_same_in_every_frame(data):
    mask = cv2.imread(str(data / "withheld" / "overlay_mask.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == SIZE[::-1]
    assert set(np.unique(mask)) == {0, 255}
    labels = np.concatenate([stack(data / labels) for labels in LABELS[2:]])
    assert ((labels == BACKGROUND) == (mask == 255)).all()
    images = np.concatenate([stack(data / images) for images in IMAGES[2:]]).astype(float)
    inside = cv2.erode(mask, np.ones((7, 7)), borderValue=255) == 255
    free = cv2.dilate(mask, np.ones((25, 25))) == 0
    spread = images.std(axis=0).mean(axis=-1)
    assert spread[inside].max() < 8  # noise of 4, from 12 frames
    assert spread[free].mean() > 25


def test_the_overlay_is_dark_sides_and_a_hood():
    width, height = 480, 270
    mask, frame = CameraOverlay().mask((width, height)), CameraOverlay().paste(np.full((270, 480, 3), 0.7, np.float32))
    assert mask[height // 2, [0, -1]].all()
    assert mask[[0, 0, -1, -1], [0, -1, 0, -1]].all()
    assert mask[-1].all()
    assert not mask[0, width // 2] and not mask[height // 2, width // 2]
    assert frame[height // 2, 0].max() < 0.1
    assert frame[-12, width // 2].mean() > 0.15  # paint, not darkness
    smaller, larger = CameraOverlay(hood=0).mask((width, height)), CameraOverlay(circle=0.7).mask((width, height))
    assert smaller.sum() < mask.sum() < larger.sum()


def test_the_cameras_are_recorded(data):
    cameras = read_yaml(data / "withheld" / "cameras.yaml")
    source, target = (from_dict(cameras[name]) for name in ("source", "target"))
    assert source == source_camera(SOURCE_SIZE)
    assert isinstance(source, Pinhole)
    assert target == target_camera(SIZE)
    assert isinstance(target, Fisheye) and any(target.k)
    seen = np.where(CameraOverlay().mask(SIZE)[..., None], np.nan, target.rays())[SIZE[1] // 2]
    across = np.degrees(np.nanmax(np.arctan2(seen[:, 0], seen[:, 2])) - np.nanmin(np.arctan2(seen[:, 0], seen[:, 2])))
    assert 150 < across < 170


@pytest.mark.parametrize("seed", [3, 4])
def test_two_cameras_see_the_same_street(seed):
    pinhole, fisheye = Pinhole.from_fov((400, 240), 1.2), Fisheye.from_fov((400, 240), 2.6, (0.02, -0.004, 0, 0))
    _, flat = render(seed, pinhole)
    _, round_ = render(seed, fisheye)
    pixels = pinhole.project(fisheye.rays())
    with np.errstate(invalid="ignore"):
        shared = ((pixels > 1) & (pixels < (398, 238))).all(axis=-1)
    x, y = np.round(pixels[shared]).astype(int).T
    kernel = np.ones((3, 3), np.uint8)
    away = (cv2.dilate(flat, kernel) == cv2.erode(flat, kernel))[y, x]
    assert away.sum() > 5000
    assert (flat[y, x] == round_[shared])[away].mean() > 0.97


def test_a_scene_is_rendered_by_any_lens():
    narrow = Fisheye(120, 80, 20.0, 20.0, 59.5, 39.5, (-0.1, 0.0, 0.0, 0.0))  # sees nothing near the corners
    image, label = render((1, 2), narrow)
    blind = np.isnan(narrow.rays()).any(axis=-1)
    assert blind.any()
    assert ((label == BACKGROUND) == blind).all()
    assert (image[blind] == 0).all()
    again, _ = render((1, 2), narrow, Sensor(noise=3.0, blur=0.5))
    assert 0 < np.abs(again.astype(int) - image)[~blind].mean() < 20
