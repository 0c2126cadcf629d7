"""Masks and sizes that do not belong to the test images."""

import numpy as np
import pytest

from lib.dataset import image_files
from lib.errors import InputError
from lib.stages.submit import SubmitOptions, submit
from lib.submission.masks import check_masks, check_proportions, image_sizes
from tests.submission.conftest import SIZE


@pytest.mark.parametrize(
    ("size", "images", "expected"),
    [
        ((540, 960), (1920, 1080), r"submission_size: 540×960, .* are 1920×1080 .*Pass submission_size=\[960, 540\]"),
        (
            (960, 540),
            (1280, 966),
            r"960×540, .* are 1280×966 .*Pass submission_size=\[960, 724\], or stretch_masks=True",
        ),
        ((960, 960), (1920, 1080), r"Pass submission_size=\[960, 540\]"),
        ((9, 16), (1920, 1080), r"Pass submission_size=\[16, 9\]"),
    ],
)
def test_other_proportions_are_refused(size, images, expected):
    with pytest.raises(InputError, match=expected):
        check_proportions(size, [(size[0] * 2, size[1] * 2), images])


@pytest.mark.parametrize(
    ("size", "images"),
    [
        ((960, 540), (1920, 1080)),
        ((960, 540), (480, 270)),
        ((960, 540), (1920, 1088)),  # rows that a video codec adds
        ((333, 187), (1920, 1080)),
        ((7, 5), (1280, 966)),
    ],
)
def test_scaled_sizes_pass(size, images):
    check_proportions(size, [images])


def test_submit_stretches_only_what_it_may(masks, data, tmp_path):
    options = dict(data=data, out=tmp_path / "run", submission_size=SIZE[::-1])
    with pytest.raises(InputError, match="submission_size: 6×8, but test images are 16×12"):
        submit(SubmitOptions(**options))
    submit(SubmitOptions(**options, stretch_masks=True))


def test_masks_of_no_image_are_refused(written, masks, data, tmp_path):
    before = written.read_bytes()
    image_files.write_png(masks / "VAL_0000.png", np.zeros((12, 16), np.uint8))
    (masks / "TEST_0000.jpg").touch()
    image_files.write_png(masks / "TEST_0001.png", np.zeros((6, 8), np.uint8))
    (masks / "TEST_0002.png").unlink()
    with pytest.raises(InputError) as caught:
        submit(SubmitOptions(data=data, out=tmp_path / "run", submission_size=SIZE))
    for found in (
        "VAL_0000.png: a mask of no image in test.csv",
        "TEST_0000.jpg: not a .png file",
        "TEST_0001.png: 8×6, but its image is 16×12",
        "TEST_0002.png: not found. Run 03_infer again",
    ):
        assert found in str(caught.value)
    assert written.read_bytes() == before


def test_other_files_beside_masks_are_ignored(masks, data):
    for name in ("._TEST_0000.png", ".TEST_0000.7.tmp.png", "parameters.yaml", "inputs.json", "notes.txt"):
        (masks / name).touch()
    check_masks(masks, image_sizes(data))


def test_replacing_a_submission_of_another_size_is_said(written, data, tmp_path, capsys):
    submit(SubmitOptions(data=data, out=tmp_path / "run", submission_size=SIZE))
    assert "replaced" not in capsys.readouterr().out
    submit(SubmitOptions(data=data, out=tmp_path / "run", submission_size=(16, 12)))
    assert "submission.csv: masks of 8×6 are replaced by masks of 16×12" in capsys.readouterr().out
    (tmp_path / "run" / "run.yaml").unlink()  # as after new masks
    submit(SubmitOptions(data=data, out=tmp_path / "run", submission_size=(16, 12)))
    assert "replaced" not in capsys.readouterr().out
