"""Run lengths, writing and checking ``submission.csv``, and its score on values worked out by hand."""

import sys

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from lib import run
from lib.dataset import image_files, layout
from lib.dataset.classes import BACKGROUND, CAR, CLASSES, IGNORE, ROAD, SKY
from lib.errors import InputError
from lib.stages import submit

IDS = ("TEST_0000", "TEST_0001", "TEST_0002")
SIZE = (8, 6)  # width, height


@pytest.fixture(autouse=True)
def quick_record(monkeypatch):
    """The environment in ``run.yaml`` is not what is tested here, and finding it out imports torch."""
    monkeypatch.setattr(run, "environment", dict)


@pytest.fixture
def data(tmp_path):
    """Tables of a test split; its images are never opened here."""
    folder = tmp_path / "set"
    folder.mkdir()
    pd.DataFrame({"id": IDS, "img_path": [f"{i}.png" for i in IDS]}).to_csv(folder / "test.csv", index=False)
    # The sample lists images in another order than test.csv.
    sample = pd.DataFrame({"id": layout.row_ids(IDS[::-1]), "mask_rle": "-1"})
    sample.to_csv(folder / "sample_submission.csv", index=False)
    return folder


@pytest.fixture
def masks(tmp_path):
    """Random masks twice the submission's size, with Background and IGNORE; Car only in the first."""
    rng = np.random.default_rng(0)
    for i, image_id in enumerate(IDS):
        mask = rng.choice([*range(CAR), BACKGROUND, IGNORE], (12, 16)).astype(np.uint8)
        if i == 0:
            mask[:6] = CAR
        image_files.write_png(tmp_path / "run" / "masks" / f"{image_id}.png", mask)
    return tmp_path / "run" / "masks"


@pytest.fixture
def written(masks, data, tmp_path):
    return submit.submit(data, tmp_path / "run", SIZE)[0]


def edit(path, change):
    """Rewrite the CSV after ``change`` (table -> table)."""
    change(pd.read_csv(path, dtype=str)).to_csv(path, index=False)


# Run lengths


def naive_encode(mask: np.ndarray) -> str:
    words, previous = [], False
    for number, pixel in enumerate([bool(mask[y, x]) for y in range(mask.shape[0]) for x in range(mask.shape[1])], 1):
        if pixel and not previous:
            words += [number, 0]
        if pixel:
            words[-1] += 1
        previous = pixel
    return " ".join(map(str, words)) or "-1"


def test_run_lengths_written_by_hand():
    mask = np.array(
        [
            [0, 1, 1, 0],
            [0, 0, 0, 1],  # goes on in the next row: one run
            [1, 0, 0, 1],
        ],
        dtype=bool,
    )
    assert submit.rle_encode(mask) == "2 2 8 2 12 1"
    np.testing.assert_array_equal(submit.rle_decode("2 2 8 2 12 1", (4, 3)), mask)


def test_absent_and_full():
    assert submit.rle_encode(np.zeros((3, 4), bool)) == "-1"
    assert submit.rle_encode(np.ones((3, 4), bool)) == "1 12"
    assert not submit.rle_decode("-1", (4, 3)).any()
    assert submit.rle_decode("1 12", (4, 3)).all()
    assert submit.rle_decode("-1", (4, 3)).shape == (3, 4)


def test_adjacent_runs_are_one():
    np.testing.assert_array_equal(submit.rle_decode("1 2 3 2", (4, 1)), [[True] * 4])


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=30)))
def test_run_lengths_round_trip(mask):
    text = submit.rle_encode(mask)
    assert text == naive_encode(mask)
    decoded = submit.rle_decode(text, mask.shape[::-1])
    assert decoded.dtype == bool
    np.testing.assert_array_equal(decoded, mask)


def test_encoding_does_not_mind_strides():
    mask = np.random.default_rng(0).random((20, 30)) > 0.5
    assert submit.rle_encode(mask.T[::-1]) == submit.rle_encode(np.ascontiguousarray(mask.T[::-1]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "pairs of numbers"),
        ("nan", "pairs of numbers"),
        ("1 2 3", "pairs of numbers"),
        ("1.5 2", "pairs of numbers"),
        ("0 2", "pairs of numbers"),
        ("3 0", "pairs of numbers"),
        ("-1 2", "pairs of numbers"),
        ("-1 -1", "pairs of numbers"),
        ("1 99999999999999999999999", "pairs of numbers"),
        ("5 1 1 1", "ascending"),
        ("1 3 3 1", "ascending"),
        ("12 2", "beyond the last pixel"),
        ("13 1", "beyond the last pixel"),
        ("9223372036854775807 9223372036854775807", "beyond the last pixel"),
    ],
)
def test_malformed_run_lengths(text, expected):
    with pytest.raises(InputError, match=expected):
        submit.rle_decode(text, (4, 3))


@given(st.text(alphabet="0123456789- ", max_size=20))
def test_any_text_decodes_or_is_refused(text):
    try:
        mask = submit.rle_decode(text, (5, 4))
    except InputError:
        return
    np.testing.assert_array_equal(submit.rle_decode(submit.rle_encode(mask), (5, 4)), mask)


def test_long_texts_are_shortened_in_errors():
    with pytest.raises(InputError) as caught:
        submit.rle_decode("7 " * 5001, (100, 100))
    assert len(str(caught.value)) < 200


# Writing


def test_submit_keeps_the_samples_rows_and_order(written, data, tmp_path):
    assert written == tmp_path / "run" / "submission.csv"
    table = pd.read_csv(written, dtype=str)
    assert list(table.columns) == ["id", "mask_rle"]
    assert table["id"].tolist() == layout.read_sample(data)
    assert len(table) == len(IDS) * len(CLASSES)
    assert sorted(path.name for path in written.parent.iterdir()) == ["masks", "run.yaml", "submission.csv"]
    assert run.finished(written.parent, "submit")["results"] == {"submission": written.name}


def test_submit_resizes_at_pixel_centres(masks, data, tmp_path):
    # Of five columns the middle one is wide: among three, each third has its own nearest centre.
    row = np.array([ROAD, SKY, CAR, SKY, ROAD], np.uint8)
    for image_id in IDS:
        image_files.write_png(masks / f"{image_id}.png", np.tile(row, (3, 1)))
    path, _ = submit.submit(data, tmp_path / "run", (3, 1))
    runs_of = pd.read_csv(path, dtype=str).set_index("id")["mask_rle"]
    assert runs_of[f"TEST_0000_class_{ROAD}"] == "1 1 3 1"
    assert runs_of[f"TEST_0000_class_{CAR}"] == "2 1"
    assert runs_of[f"TEST_0000_class_{SKY}"] == "-1"


def test_submit_gives_background_and_ignore_no_row(masks, data, tmp_path):
    for image_id, value in zip(IDS, (BACKGROUND, IGNORE, BACKGROUND), strict=True):
        image_files.write_png(masks / f"{image_id}.png", np.full((6, 8), value, np.uint8))
    path, _ = submit.submit(data, tmp_path / "run", SIZE)
    assert set(pd.read_csv(path, dtype=str)["mask_rle"]) == {"-1"}


def test_submit_names_every_bad_mask_and_leaves_no_file(masks, data, tmp_path):
    (masks / "TEST_0000.png").unlink()
    image_files.write_png(masks / "TEST_0001.png", np.full((6, 8), BACKGROUND + 1, np.uint8))
    with pytest.raises(InputError) as caught:
        submit.submit(data, tmp_path / "run", SIZE)
    assert "TEST_0000.png: not found" in str(caught.value)
    assert "TEST_0001.png: label value 13 (allowed: 0–12, 255)" in str(caught.value)
    assert not (tmp_path / "run" / "submission.csv").exists()


def test_submit_needs_the_stage_before(data, tmp_path):
    with pytest.raises(InputError, match="masks does not exist. Run 03_infer"):
        submit.submit(data, tmp_path / "run", SIZE)


def test_submit_refuses_tables_that_disagree(masks, data, tmp_path):
    edit(data / "sample_submission.csv", lambda table: table[1:])
    with pytest.raises(InputError, match="no row TEST_0002_class_0 .expected by test.csv"):
        submit.submit(data, tmp_path / "run", SIZE)


@pytest.mark.parametrize(
    "size", [(0, 540), (960, -1), (960,), (960, 540, 3), (9.5, 5), "ab", "960x540", None, 7, (2**20, 2)]
)
def test_nonsense_sizes_are_refused(masks, data, tmp_path, size):
    with pytest.raises(InputError, match="submission_size: .*expected: width and height"):
        submit.submit(data, tmp_path / "run", size)


def test_size_may_be_a_list_or_numpy(masks, data, tmp_path):
    for size in (list(SIZE), np.array(SIZE)):
        path, _ = submit.submit(data, tmp_path / "run", size)
        submit.check(path, masks, data, size)


# Checking


def test_check_returns_frequencies(written, masks, data):
    found = submit.check(written, masks, data, SIZE)
    assert found.index.tolist() == list(CLASSES)
    resized = np.stack(
        [
            cv2.resize(image_files.read_label(masks / f"{i}.png"), SIZE, interpolation=cv2.INTER_NEAREST_EXACT)
            for i in IDS
        ]
    )
    expected = [(resized == c).mean() for c in range(len(CLASSES))]
    np.testing.assert_allclose(found["pixels"], expected)
    assert found.loc["Car", "images"] == 1
    assert found.loc["Road", "images"] == 3


def test_check_catches_one_changed_pixel(written, masks, data):
    def tamper(table):
        row = table.index[table["id"] == f"TEST_0001_class_{SKY}"][0]
        mask = submit.rle_decode(table.loc[row, "mask_rle"], SIZE)
        mask[2, 3] ^= True
        table.loc[row, "mask_rle"] = submit.rle_encode(mask)
        return table

    edit(written, tamper)
    with pytest.raises(InputError, match=f"TEST_0001_class_{SKY} differs from .* in 1 pixels, first at x 3, y 2"):
        submit.check(written, masks, data, SIZE)


def test_check_catches_changed_masks(written, masks, data):
    image_files.write_png(masks / "TEST_0002.png", np.full((6, 8), ROAD, np.uint8))
    with pytest.raises(InputError, match="TEST_0002_class_0 differs"):
        submit.check(written, masks, data, SIZE)


def test_check_catches_malformed_rows(written, masks, data):
    edit(written, lambda table: table.assign(mask_rle=["2 2 1 1", *table["mask_rle"][1:]]))
    with pytest.raises(InputError, match="submission.csv: TEST_0002_class_0: run lengths '2 2 1 1'"):
        submit.check(written, masks, data, SIZE)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.iloc[[1, 0, *range(2, len(t))]], r"line 2 is TEST_0002_class_1 \(expected: TEST_0002_class_0"),
        (lambda t: t[:-1], "no row TEST_0000_class_11"),
        (lambda t: pd.concat([t, t[:1]]), "id TEST_0002_class_0 in 2 rows"),
        (lambda t: t.assign(id=["TEST_0002_class_12", *t["id"][1:]]), "row TEST_0002_class_12 .unknown to"),
        (lambda t: t.rename(columns={"mask_rle": "rle"}), "Rename or add mask_rle"),
        (lambda t: t[:0], "no rows"),
    ],
)
def test_check_catches_rows_that_are_not_the_samples(written, masks, data, change, expected):
    edit(written, change)
    with pytest.raises(InputError, match=expected):
        submit.check(written, masks, data, SIZE)


def test_check_catches_a_wrong_size(written, masks, data):
    with pytest.raises(InputError, match="beyond the last pixel|differs"):
        submit.check(written, masks, data, SIZE[::-1])
    with pytest.raises(InputError, match=r"beyond the last pixel .expected: masks of 4×3"):
        submit.check(written, masks, data, (4, 3))


# Command line


def test_command_line_checks(written, masks, data, monkeypatch, capsys):
    arguments = ["check", str(written), "--masks", str(masks), "--data", str(data), "--size", *map(str, SIZE)]
    monkeypatch.setattr(sys, "argv", ["submission", *arguments])
    submit.main()
    assert "pixel by pixel" in capsys.readouterr().out
    edit(written, lambda table: table[:-1])
    with pytest.raises(SystemExit, match="no row TEST_0000_class_11"):
        submit.main()
