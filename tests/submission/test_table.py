"""Writing and checking ``submission.csv``."""

import cv2
import numpy as np
import pandas as pd
import pytest

from lib.dataset import image_files, layout
from lib.dataset.classes import BACKGROUND, CAR, CLASSES, IGNORE, ROAD, SKY
from lib.errors import InputError
from lib.files import digest
from lib.run import Run
from lib.stages.submit import SubmitOptions, submit
from lib.submission.run_length import decode_mask, encode_mask
from lib.submission.table import check_submission, write_submission
from tests.submission.conftest import IDS, SIZE


def edit(path, change):
    """Rewrite the CSV after ``change`` (table -> table)."""
    change(pd.read_csv(path, dtype=str)).to_csv(path, index=False)


def test_submit_keeps_the_samples_rows_and_order(written, data, tmp_path):
    assert written == tmp_path / "run" / "submission.csv"
    table = pd.read_csv(written, dtype=str)
    assert list(table.columns) == ["id", "mask_rle"]
    assert table["id"].tolist() == layout.read_sample(data)
    assert len(table) == len(IDS) * len(CLASSES)
    assert sorted(path.name for path in written.parent.iterdir()) == [
        "digests.json",
        "masks",
        "run.yaml",
        "submission.csv",
    ]
    assert Run(written.parent).entry("submit")["results"] == {"submission": written.name, "digest": digest(written)}


def test_a_submission_that_was_changed_is_not_done(written, data):
    options = SubmitOptions(data=data, out=written.parent, submission_size=SIZE)
    assert Run(written.parent).is_done("submit", options)
    written.write_bytes(written.read_bytes()[:-4])
    assert not Run(written.parent).is_done("submit", options)
    submit(options)
    assert Run(written.parent).is_done("submit", options)


def test_submit_resizes_at_pixel_centres(masks, data, tmp_path):
    # Of five columns the middle one is wide: among three, each third has its own nearest centre.
    row = np.array([ROAD, SKY, CAR, SKY, ROAD], np.uint8)
    for image_id in IDS:
        image_files.write_png(data / f"{image_id}.png", np.zeros((3, 5, 3), np.uint8))
        image_files.write_png(masks / f"{image_id}.png", np.tile(row, (3, 1)))
    path, _ = submit(SubmitOptions(data=data, out=tmp_path / "run", submission_size=(3, 1), stretch_masks=True))
    runs_of = pd.read_csv(path, dtype=str).set_index("id")["mask_rle"]
    assert runs_of[f"TEST_0000_class_{ROAD}"] == "1 1 3 1"
    assert runs_of[f"TEST_0000_class_{CAR}"] == "2 1"
    assert runs_of[f"TEST_0000_class_{SKY}"] == "-1"


def test_submit_gives_background_and_ignore_no_row(masks, data, tmp_path):
    for image_id, value in zip(IDS, (BACKGROUND, IGNORE, BACKGROUND), strict=True):
        image_files.write_png(masks / f"{image_id}.png", np.full((12, 16), value, np.uint8))
    path, _ = submit(SubmitOptions(data=data, out=tmp_path / "run", submission_size=SIZE))
    assert set(pd.read_csv(path, dtype=str)["mask_rle"]) == {"-1"}


def test_submit_names_every_bad_mask_and_leaves_no_file(masks, data, tmp_path):
    (masks / "TEST_0000.png").unlink()
    image_files.write_png(masks / "TEST_0001.png", np.full((12, 16), BACKGROUND + 1, np.uint8))
    with pytest.raises(InputError, match=r"TEST_0000.png: not found. Run 03_infer again"):
        submit(SubmitOptions(data=data, out=tmp_path / "run", submission_size=SIZE))
    with pytest.raises(InputError) as caught:
        write_submission(tmp_path / "run" / "submission.csv", masks, data, SIZE)
    assert "TEST_0000.png: not found" in str(caught.value)
    assert "TEST_0001.png: label value 13 (allowed: 0–12, 255)" in str(caught.value)
    assert not (tmp_path / "run" / "submission.csv").exists()


def test_a_file_that_was_written_wrongly_gets_no_name(written, masks, data, tmp_path, monkeypatch):
    """The masks changed, and so would the file; what reaches the disk is short of three bytes."""
    before = written.read_bytes()
    image_files.write_png(masks / "TEST_0000.png", np.full((12, 16), ROAD, np.uint8))
    write = pd.DataFrame.to_csv

    def write_short(table, path, **options):
        write(table, path, **options)
        path.write_bytes(path.read_bytes()[:-4])

    monkeypatch.setattr(pd.DataFrame, "to_csv", write_short)
    with pytest.raises(InputError):
        submit(SubmitOptions(data=data, out=tmp_path / "run", submission_size=SIZE))
    assert written.read_bytes() == before
    assert not list((tmp_path / "run").glob(".*"))
    assert Run(tmp_path / "run").entry("submit") is None


def test_submit_needs_the_stage_before(data, tmp_path):
    with pytest.raises(InputError, match="masks does not exist. Run 03_infer"):
        submit(SubmitOptions(data=data, out=tmp_path / "run", submission_size=SIZE))


def test_submit_refuses_tables_that_disagree(masks, data, tmp_path):
    edit(data / "sample_submission.csv", lambda table: table[1:])
    with pytest.raises(InputError, match="no row TEST_0002_class_0 .expected by test.csv"):
        submit(SubmitOptions(data=data, out=tmp_path / "run", submission_size=SIZE))


@pytest.mark.parametrize(
    "size", [(0, 540), (960, -1), (960,), (960, 540, 3), (9.5, 5), "ab", "960x540", None, 7, (2**20, 2)]
)
def test_nonsense_sizes_are_refused(masks, data, tmp_path, size):
    with pytest.raises(InputError, match="submission_size: .*expected: width and height"):
        submit(SubmitOptions(data=data, out=tmp_path / "run", submission_size=size))


def test_size_may_be_a_list_or_numpy(masks, data, tmp_path):
    for size in (list(SIZE), np.array(SIZE)):
        path, _ = submit(SubmitOptions(data=data, out=tmp_path / "run", submission_size=size))
        check_submission(path, masks, data, size)


# Checking


def test_check_returns_frequencies(written, masks, data):
    found = check_submission(written, masks, data, SIZE)
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
        mask = decode_mask(table.loc[row, "mask_rle"], SIZE)
        mask[2, 3] ^= True
        table.loc[row, "mask_rle"] = encode_mask(mask)
        return table

    edit(written, tamper)
    with pytest.raises(InputError, match=f"TEST_0001_class_{SKY} differs from .* in 1 pixels, first at x 3, y 2"):
        check_submission(written, masks, data, SIZE)


def test_check_catches_changed_masks(written, masks, data):
    image_files.write_png(masks / "TEST_0002.png", np.full((6, 8), ROAD, np.uint8))
    with pytest.raises(InputError, match="TEST_0002_class_0 differs"):
        check_submission(written, masks, data, SIZE)


def test_check_catches_malformed_rows(written, masks, data):
    edit(written, lambda table: table.assign(mask_rle=["2 2 1 1", *table["mask_rle"][1:]]))
    with pytest.raises(InputError, match="submission.csv: TEST_0002_class_0: run lengths '2 2 1 1'"):
        check_submission(written, masks, data, SIZE)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.iloc[[1, 0, *range(2, len(t))]], r"line 2 is TEST_0002_class_1 \(expected: TEST_0002_class_0"),
        (lambda t: t[:-1], "no row TEST_0000_class_11"),
        (lambda t: pd.concat([t, t[:1]]), "id TEST_0002_class_0 in 2 rows"),
        (lambda t: t.assign(id=["TEST_0002_class_12", *t["id"][1:]]), "row TEST_0002_class_12 .unknown to"),
        (lambda t: t.rename(columns={"mask_rle": "rle"}), "Rename or add mask_rle"),
        (lambda t: t[:0], "no rows"),
        (lambda t: t.assign(more="1"), "the columns id, mask_rle, more .expected: id, mask_rle"),
        (lambda t: t[["mask_rle", "id"]], "the columns mask_rle, id .expected: id, mask_rle"),
    ],
)
def test_check_catches_rows_that_are_not_the_samples(written, masks, data, change, expected):
    edit(written, change)
    with pytest.raises(InputError, match=expected):
        check_submission(written, masks, data, SIZE)


def test_check_catches_an_extra_cell_per_row(written, masks, data):
    header, *rows = written.read_text().splitlines()
    written.write_text("\n".join([header, *(f"{row},1" for row in rows)]))
    with pytest.raises(InputError, match="submission.csv: rows with more cells than the header"):
        check_submission(written, masks, data, SIZE)


def test_check_catches_a_wrong_size(written, masks, data):
    with pytest.raises(InputError, match="beyond the last pixel|differs"):
        check_submission(written, masks, data, SIZE[::-1])
    with pytest.raises(InputError, match=r"beyond the last pixel .expected: masks of 4×3"):
        check_submission(written, masks, data, (4, 3))
