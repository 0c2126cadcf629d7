"""Scores of submissions against labels."""

import numpy as np
import pandas as pd
import pytest

from lib.dataset import image_files, layout
from lib.dataset.classes import BACKGROUND, CAR, CLASSES, IGNORE, ROAD, SKY
from lib.errors import InputError
from lib.submission.score import score_submission
from tests.submission.conftest import SIZE


def small_submission(path, rows: dict[str, str], images=("A",)):
    """A submission whose rows are absent but for the named ones."""
    ids = layout.row_ids(images)
    pd.DataFrame({"id": ids, "mask_rle": [rows.get(i, "-1") for i in ids]}).to_csv(path, index=False)
    return path


def test_score_worked_out_by_hand(tmp_path):
    label = np.array(
        [
            [ROAD, ROAD, ROAD, ROAD],
            [SKY, SKY, BACKGROUND, IGNORE],
        ],
        dtype=np.uint8,
    )
    image_files.write_png(tmp_path / "labels" / "A.png", label)
    path = small_submission(
        tmp_path / "s.csv",
        {
            f"A_class_{ROAD}": "1 3 7 2",  # 3 right, 1 missed, 1 on Background, 1 on IGNORE that does not count
            f"A_class_{SKY}": "4 2",  # 1 right, 1 missed, 1 on Road
            f"A_class_{CAR}": "6 1",  # no label shows a car
        },
    )
    found = score_submission(path, tmp_path / "labels", (4, 2))
    assert found.index.tolist() == [*CLASSES, "mIoU"]
    assert found["Road"] == pytest.approx(3 / 5)
    assert found["Sky"] == pytest.approx(1 / 3)
    assert found["mIoU"] == pytest.approx((3 / 5 + 1 / 3) / 2)
    assert np.isnan(found["Car"])
    assert found.isna().sum() == len(CLASSES) - 2


def test_score_sums_pixels_over_images_before_dividing(tmp_path):
    for name in "AB":
        image_files.write_png(tmp_path / "labels" / f"{name}.png", np.full((1, 4), ROAD, np.uint8))
    rows = {f"A_class_{ROAD}": "1 4", f"B_class_{ROAD}": "1 1"}
    path = small_submission(tmp_path / "s.csv", rows, ("B", "A"))
    assert score_submission(path, tmp_path / "labels", (4, 1))["mIoU"] == pytest.approx(5 / 8)


def test_score_of_the_labels_themselves_is_one(written, masks):
    found = score_submission(written, masks, SIZE)
    assert found.dropna().eq(1).all()
    assert not found[:-1].isna().any()


def test_score_infers_the_size(tmp_path):
    label = np.full((4, 6), ROAD, np.uint8)
    image_files.write_png(tmp_path / "labels" / "A.png", label)
    both = small_submission(tmp_path / "both.csv", {f"A_class_{ROAD}": "1 24"})
    none = small_submission(tmp_path / "none.csv", {})
    full = small_submission(tmp_path / "full.csv", {f"A_class_{ROAD}": f"1 {960 * 540}"})
    wrong = small_submission(tmp_path / "wrong.csv", {f"A_class_{ROAD}": f"1 {960 * 540 + 1}"})
    with pytest.raises(
        InputError, match=r"both.csv: its runs fit masks of 6×4 .* and of 960×540 .*--size WIDTH HEIGHT"
    ):
        score_submission(both, tmp_path / "labels")
    assert score_submission(both, tmp_path / "labels", (6, 4))["mIoU"] == 1
    assert score_submission(none, tmp_path / "labels")["mIoU"] == 0
    assert score_submission(full, tmp_path / "labels")["mIoU"] == 1
    third = small_submission(tmp_path / "third.csv", {f"A_class_{ROAD}": f"1 {480 * 270}"})
    with pytest.raises(InputError, match=r"its runs end at pixel 129600, in the first half of masks of 960×540"):
        score_submission(third, tmp_path / "labels")
    with pytest.raises(InputError, match=r"ends at pixel 518401, .*--size WIDTH HEIGHT"):
        score_submission(wrong, tmp_path / "labels")


def test_score_asks_for_the_size_of_a_submission_that_fits_two(tmp_path):
    """Half of the competition's masks is a quarter of the labels' first rows."""
    label = np.zeros((1080, 1920), np.uint8)
    label[:540] = SKY
    image_files.write_png(tmp_path / "labels" / "A.png", label)
    half = 960 * 270
    rows = {f"A_class_{SKY}": f"1 {half}", f"A_class_{ROAD}": f"{half + 1} {half}"}
    path = small_submission(tmp_path / "s.csv", rows)
    with pytest.raises(InputError, match="fit masks of 1920×1080 .* and of 960×540"):
        score_submission(path, tmp_path / "labels")
    assert score_submission(path, tmp_path / "labels", (960, 540))["mIoU"] == 1


def test_score_asks_for_the_size_if_labels_differ_in_size(tmp_path):
    for image_id, shape in (("A", (540, 960)), ("B", (270, 480))):
        image_files.write_png(tmp_path / "labels" / f"{image_id}.png", np.full(shape, ROAD, np.uint8))
    rows = {f"{image_id}_class_{ROAD}": f"1 {960 * 540}" for image_id in "AB"}
    path = small_submission(tmp_path / "s.csv", rows, "AB")
    with pytest.raises(InputError, match="labels: labels of 2 sizes, such as 480×270 and 960×540. Give the size"):
        score_submission(path, tmp_path / "labels")
    assert score_submission(path, tmp_path / "labels", (960, 540))["mIoU"] == 1


def test_score_ignores_hidden_files(written, masks):
    (masks / "._TEST_0000.png").write_bytes(b"Mac")
    assert score_submission(written, masks, SIZE)["mIoU"] == 1


def test_score_names_the_labels_folder(written, masks, tmp_path):
    image_files.write_png(tmp_path / "photos" / "TEST_0000.png", np.zeros((2, 2, 3), np.uint8))
    for folder in (masks.parent, tmp_path):
        with pytest.raises(
            InputError, match=f"{folder}: no TEST_0002.png, no PNG at all .*Pass {masks}, which has lab"
        ):
            score_submission(written, folder, SIZE)
    image_files.write_png(tmp_path / "others" / "VAL_0000.png", np.zeros((2, 2), np.uint8))
    with pytest.raises(InputError, match="others: no TEST_0002.png .*Pass the folder with their labels"):
        score_submission(written, tmp_path / "others", SIZE)


def test_score_refuses_what_does_not_belong_together(tmp_path, written, masks):
    with pytest.raises(InputError, match="nowhere: .*no such folder"):
        score_submission(written, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: .*no PNG"):
        score_submission(written, tmp_path / "empty")
    with pytest.raises(InputError, match="nowhere.csv: No such file"):
        score_submission(tmp_path / "nowhere.csv", masks)
    (masks / "TEST_0000.png").rename(masks / "TEST_0009.png")
    with pytest.raises(InputError, match="masks: no TEST_0000.png .*Pass the folder with their labels"):
        score_submission(written, masks, SIZE)
    (masks / "TEST_0009.png").rename(masks / "TEST_0000.png")
    image_files.write_png(masks / "TEST_0009.png", np.zeros((2, 2), np.uint8))
    with pytest.raises(InputError, match="masks: holds TEST_0009.png, of no row .expected: .*submission.csv"):
        score_submission(written, masks, SIZE)


def test_score_refuses_impossible_labels_and_malformed_rows(tmp_path):
    image_files.write_png(tmp_path / "labels" / "A.png", np.full((2, 2), 200, np.uint8))
    path = small_submission(tmp_path / "s.csv", {})
    with pytest.raises(InputError, match=r"A.png: label value 200 .allowed: 0–12, 255"):
        score_submission(path, tmp_path / "labels")
    image_files.write_png(tmp_path / "labels" / "A.png", np.zeros((2, 2), np.uint8))
    path = small_submission(tmp_path / "s.csv", {"A_class_3": "x y"})
    with pytest.raises(InputError, match="s.csv: A_class_3: run lengths 'x y'"):
        score_submission(path, tmp_path / "labels")
