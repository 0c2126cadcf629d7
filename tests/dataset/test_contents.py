"""What the check of a whole set reports: class shares, and warnings."""

import numpy as np
import pytest

from lib.dataset import layout
from lib.dataset.classes import BACKGROUND, IGNORE
from tests.faults.image_builder import HEIGHT, WIDTH, data_set, png, write


@pytest.fixture
def data(tmp_path):
    return data_set(tmp_path)


def test_class_shares(data):
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    label[: HEIGHT // 2] = IGNORE
    for i in range(2):
        write(data / f"gt/train_source_{i}.png", png(label))
    report = layout.check(data)
    assert set(report.shares) == {"train_source", "val_source"}
    assert report.shares["train_source"]["Road"] == report.shares["train_source"]["unlabelled"] == 0.5
    assert sum(report.shares["val_source"].values()) == pytest.approx(1)
    assert "Road 0.500, Sidewalk 0.000" in str(report)


def test_background_has_a_share_among_13_classes(data):
    write(data / "gt/train_source_0.png", png(np.full((HEIGHT, WIDTH), BACKGROUND)))
    report = layout.check(data, ("train_source",), classes=BACKGROUND + 1)
    assert report.shares["train_source"]["Background"] == 0.5


def test_a_sound_set_warns_of_nothing(data):
    assert layout.check(data).warnings == ()


def test_warnings_list_a_few_names(data):
    rows = [(f"a{i}", "image/test_0.png") for i in range(9)]
    layout.write_table(data / "train_target.csv", ("id", "img_path"), rows)
    (warning,) = layout.check(data, ("train_target",)).warnings
    assert warning == "train_target: images that occur twice: a1 = a0, a2 = a0, a3 = a0 and 5 more."


def test_a_test_image_may_be_a_target_image(data):
    write(data / "image/test_0.png", (data / "image/train_target_0.png").read_bytes())
    assert layout.check(data).warnings == ()
