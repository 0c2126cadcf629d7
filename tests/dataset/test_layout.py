"""Reading a data set in the competition's layout, and every fault that ``check`` finds."""

import csv
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from lib.dataset import image_files, layout
from lib.dataset.classes import BACKGROUND
from lib.errors import InputError
from tests.builders import HEIGHT, WIDTH, classes_label, encoded, photo

REAL = Path(__file__).parents[3] / "shared" / "data" / "camvid-fisheye"


def write_csv(path: Path, rows: list[tuple]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def lines(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.fixture
def data(tmp_path):
    """Two labelled images per source split, two target and two test images: PNG, JPEG among them."""
    folder = tmp_path / "set"
    for split, columns in layout.SPLITS.items():
        rows = [columns]
        for i in range(2):
            name = f"{split.upper()}_{i:04}"
            image = folder / f"{split}_image" / f"{name}{'.jpg' if split == 'test' else '.png'}"
            image.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(image), photo(i))
            row = [name, f"./{image.relative_to(folder)}"]
            if "gt_path" in columns:
                label = folder / f"{split}_gt" / f"{name}.png"
                image_files.write_png(label, classes_label(i))
                row.append(f"./{label.relative_to(folder)}")
            rows.append(tuple(row))
        write_csv(folder / f"{split}.csv", rows)
    ids = layout.row_ids(["TEST_0000", "TEST_0001"])
    write_csv(folder / "sample_submission.csv", [("id", "mask_rle"), *((i, "-1") for i in ids)])
    return folder


def faults_of(folder: Path, *splits: str, **options) -> str:
    with pytest.raises(InputError) as caught:
        layout.check(folder, splits or tuple(layout.SPLITS), **options)
    return str(caught.value)


# Reading


def test_read_split_resolves_paths_beside_the_csv(data):
    items = layout.read_split(data, "train_source")
    assert [item.id for item in items] == ["TRAIN_SOURCE_0000", "TRAIN_SOURCE_0001"]
    assert items[0].image == data / "train_source_image" / "TRAIN_SOURCE_0000.png"
    assert items[0].label.is_file()
    assert layout.read_split(data, "test")[0].label is None


def test_absolute_paths_and_further_columns_are_fine(data):
    image = data / "test_image" / "TEST_0000.jpg"
    write_csv(data / "train_target.csv", [("img_path", "lens", "id"), (str(image), "0.7", "NA")])
    assert layout.read_split(str(data), "train_target") == [layout.Item("NA", image)]


def test_byte_order_mark_of_a_spreadsheet_is_fine(data):
    path = data / "test.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert layout.read_split(data, "test")[0].id == "TEST_0000"


def test_unknown_split(data):
    with pytest.raises(InputError, match="training.*train_source, val_source"):
        layout.read_split(data, "training")


# Checking


def test_check_reports_counts_and_sizes(data):
    cv2.imwrite(str(data / "test_image" / "TEST_0001.jpg"), np.zeros((20, 30, 3), np.uint8))
    report = layout.check(data)
    assert {split: counts.total() for split, counts in report.sizes.items()} == dict.fromkeys(layout.SPLITS, 2)
    assert report.sizes["train_source"] == {(WIDTH, HEIGHT): 2}
    assert report.sizes["test"] == {(WIDTH, HEIGHT): 1, (30, 20): 1}
    assert "train_source: 2 images with labels, 2 of 64×48" in str(report)
    assert "30×20" in str(report)


def test_check_reads_the_given_splits_only(data):
    (data / "train_target.csv").unlink()
    (data / "sample_submission.csv").unlink()
    assert list(layout.check(data, ("train_source", "val_source")).sizes) == ["train_source", "val_source"]


def test_check_names_the_missing_folder(tmp_path):
    with pytest.raises(InputError, match="no such folder, looked in .*train_source.csv.*Unpack"):
        layout.check(tmp_path / "nowhere")


def test_check_suggests_the_nested_folder(data):
    (data.parent / "other").mkdir()
    with pytest.raises(InputError, match=f"none of these tables, looked in .*Pass {data}, which has them"):
        layout.check(data.parent)
    with pytest.raises(InputError, match="Pass the folder that has them"):
        layout.check(data / "test_image")


def test_check_expects_known_splits(data):
    for splits in ((), ("train",), "test"):
        with pytest.raises(InputError, match="splits: .*expected: some of"):
            layout.check(data, splits)


def test_check_collects_every_kind_of_fault(data):
    (data / "train_target.csv").unlink()
    (data / "train_source_image" / "TRAIN_SOURCE_0000.png").unlink()
    cut = data / "train_source_image" / "TRAIN_SOURCE_0001.png"
    cut.write_bytes(cut.read_bytes()[:-30])
    wrong = classes_label()
    wrong[5, 5] = 37
    image_files.write_png(data / "train_source_gt" / "TRAIN_SOURCE_0000.png", wrong)
    image_files.write_png(data / "val_source_gt" / "VAL_SOURCE_0000.png", classes_label()[:-1])
    message = faults_of(data)
    assert message.startswith(f"{data}: 5 faults")
    for expected in (
        f"train_target.csv: No such file or directory, looked in {data} "
        "(expected: a CSV with the columns id, img_path)",
        "train_source_image/TRAIN_SOURCE_0000.png: not found. Restore",
        "train_source_image/TRAIN_SOURCE_0001.png: truncated PNG (no IEND chunk). Copy the file again.",
        "train_source_gt/TRAIN_SOURCE_0000.png: label value 37 (allowed: 0–11, 255). Re-export the label as class ids.",
        "val_source_gt/VAL_SOURCE_0000.png: 64×47, but its image VAL_SOURCE_0000.png is 64×48.",
    ):
        assert expected in message


def test_check_decodes_other_formats_than_png(data):
    path = data / "test_image" / "TEST_0000.jpg"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "TEST_0000.jpg: truncated JPEG" in faults_of(data, "test")
    path.write_bytes(b"GIF89a nonsense")
    assert "TEST_0000.jpg: truncated, or not an image" in faults_of(data, "test")


def test_check_allows_background_with_13_classes(data):
    label = classes_label()
    label[0] = BACKGROUND
    image_files.write_png(data / "train_source_gt" / "TRAIN_SOURCE_0001.png", label)
    assert "label value 12 (allowed: 0–11, 255)" in faults_of(data, "train_source")
    layout.check(data, ("train_source",), classes=BACKGROUND + 1)


def test_check_names_several_wrong_values(data):
    image_files.write_png(
        data / "val_source_gt" / "VAL_SOURCE_0000.png", np.arange(256, dtype=np.uint8).reshape(16, 16)
    )
    assert "label values 12, 13, 14, 15, 16 and 238 more" in faults_of(data, "val_source")


def test_check_caps_the_faults_of_a_kind(data):
    rows = [("id", "img_path"), *((f"T{i}", f"t{i}.png") for i in range(9))]
    write_csv(data / "train_target.csv", rows)
    message = faults_of(data, "train_target")
    assert message.count("not found") == 5
    assert "… and 4 more of this kind." in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "train_target.csv: No columns"),
        ("id,img_path\n", "train_target.csv: no rows"),
        ("id,file\na,b\n", r"only the columns id, file .*Rename or add img_path"),
        ("id,img_path\na,b\nc,d,e\n", "train_target.csv: Error tokenizing"),
        ("id,img_path\n,test_image/TEST_0000.jpg\n", "line 2 has a blank cell"),
        ("id,img_path\na\n", "line 2 has a blank cell"),
        ("id,img_path\n../a,test_image/TEST_0000.jpg\n", "line 2: id '../a' .expected: a plain file name"),
        ("id,img_path\na,test_image/TEST_0000.jpg\na,test_image/TEST_0001.jpg\n", "id a in 2 rows"),
        ("\xff\xfe\x00", "train_target.csv: .*decode"),
    ],
)
def test_faulty_tables(data, content, expected):
    (data / "train_target.csv").write_bytes(content.encode("latin-1"))
    for look in (layout.check, layout.read_split):
        with pytest.raises(InputError, match=expected):
            look(data, ("train_target",) if look is layout.check else "train_target")


def test_sample_submission_must_agree_with_test(data):
    path = data / "sample_submission.csv"
    rows = lines(path)
    write_csv(path, [rows[0], *rows[2:], rows[5], ("TEST_0007_class_0", "-1")])
    message = faults_of(data)
    assert "no row TEST_0000_class_0 (expected by test.csv)" in message
    assert "row TEST_0007_class_0 (unknown to test.csv)" in message
    assert "id TEST_0000_class_4 in 2 rows" in message
    with pytest.raises(InputError, match="TEST_0007_class_0"):
        layout.read_sample(data)


def test_read_sample_keeps_the_order(data):
    path = data / "sample_submission.csv"
    rows = lines(path)
    write_csv(path, [rows[0], *rows[:0:-1]])
    assert layout.read_sample(data) == layout.row_ids(["TEST_0000", "TEST_0001"])[::-1]


def test_missing_sample_submission(data):
    (data / "sample_submission.csv").unlink()
    assert "sample_submission.csv: No such file" in faults_of(data, "test")


def test_png_shortcut_agrees_with_decoding(data):
    for item in layout.read_split(data, "train_source"):
        assert image_files.image_size(item.image) == image_files.read_image(item.image).shape[1::-1]
    (data / "headless.png").write_bytes(encoded(photo())[:8] + encoded(photo())[-12:])
    with pytest.raises(InputError, match="truncated, or not an image"):
        image_files.image_size(data / "headless.png")


def test_the_report_says_no_faults(data):
    assert "no faults" in str(layout.check(data))
    (data / "val_source.csv").unlink()
    assert "val_source.csv" in faults_of(data)


def test_written_tables_are_read_back(tmp_path):
    layout.write_table(tmp_path / "test.csv", ("id", "img_path"), [("a", tmp_path / "a.png"), ("b", "./b, c.png")])
    assert layout.read_split(tmp_path, "test") == [
        layout.Item("a", tmp_path / "a.png"),
        layout.Item("b", tmp_path / "b, c.png"),
    ]
    layout.write_sample(tmp_path, ["a", "b"])
    assert layout.read_sample(tmp_path) == layout.row_ids(["a", "b"])


def test_import_needs_no_framework():
    frameworks = "{'torch', 'mmseg', 'mmengine', 'matplotlib'}"
    code = f"import sys, lib.dataset.layout, lib.stages.submit; print({frameworks} & set(sys.modules))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.skipif(not REAL.is_dir(), reason="the development set is not here")
def test_real_set_is_sound():
    report = layout.check(REAL)
    assert report.sizes["train_source"] == {(480, 360): 367}
    assert report.sizes["test"] == {(480, 270): 117}
