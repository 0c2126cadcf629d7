"""The command line: one sentence for what is wrong, and the functions behind the commands."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import lib
from lib.cli import main
from lib.dataset import image_files, layout
from lib.dataset.classes import CLASSES, ROAD
from lib.execution import Interrupted

ROOT = Path(__file__).parents[1]


def fisheye(*arguments):
    """Return the outcome of ``fisheye ARGUMENTS``: exit_code, stdout, stderr."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_module_is_the_program_and_says_what_is_wrong_in_one_sentence(tmp_path):
    command = [sys.executable, "-m", "lib.cli"]
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, cwd=ROOT)
    assert version.stdout.strip().endswith(lib.__version__)
    faulty = ["check", "data", str(tmp_path / "gone")]
    done = subprocess.run([*command, *faulty], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("Error: ") and "no such folder" in done.stderr
    done = subprocess.run([*command, "--debug", *faulty], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and "Traceback" in done.stderr


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_explains_itself(command):
    shown = fisheye(command, "--help")
    assert shown.exit_code == 0 and "Usage: " in shown.stdout


def test_options_lists_defaults_allowed_values_and_meaning():
    shown = fisheye("options", "infer")
    assert shown.exit_code == 0
    assert "flip = false: " in shown.stdout and "(true or false)" in shown.stdout
    assert "copies = 1: " in fisheye("options").stdout


def test_values_that_are_not_yaml_are_refused(tmp_path):
    done = fisheye("run", "--data", tmp_path, "--out", tmp_path, "-p", "max_iters", "[1,")
    assert done.exit_code != 0 and "max_iters '[1,' is not YAML" in done.stderr


def test_what_the_command_sets_itself_is_not_set_by_p(tmp_path):
    done = fisheye("run", "--data", tmp_path, "--out", tmp_path, "-p", "data", "elsewhere")
    assert done.exit_code != 0 and "expected: --data" in done.stderr


def test_an_unknown_variant_is_refused():
    done = fisheye("zoo", "--variant", "q")
    assert done.exit_code != 0 and "'q' is not one of" in done.stderr


def test_check_data_reports(sample):
    shown = fisheye("check", "data", sample)
    assert shown.exit_code == 0 and "no faults" in shown.stdout


@pytest.fixture
def submission(tmp_path):
    """A label of one row of road, and two submissions that find a part of it."""
    image_files.write_png(tmp_path / "labels" / "A.png", np.full((1, 4), ROAD, np.uint8))
    for name, runs in (("one", "1 1"), ("two", "1 3")):
        ids = layout.row_ids(["A"])
        table = pd.DataFrame({"id": ids, "mask_rle": [runs if i == f"A_class_{ROAD}" else "-1" for i in ids]})
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    return tmp_path


def test_scores_are_printed_side_by_side(submission):
    one, two = submission / "one.csv", submission / "two.csv"
    shown = fisheye("score", one, two, "--labels", submission / "labels", "--size", 4, 1)
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert lines[0] == [str(one), str(two)]
    assert lines[1] == ["Road", "0.250", "0.750"]
    assert lines[-1] == ["mIoU", "0.250", "0.750"]
    assert ["Car", "–", "–"] in lines
    assert len(lines) == len(CLASSES) + 2


def test_a_submission_is_checked_against_its_masks(submission):
    image_files.write_png(submission / "masks" / "A.png", np.array([[ROAD, 255, 255, 255]], np.uint8))
    pd.DataFrame({"id": ["A"], "img_path": ["A.png"]}).to_csv(submission / "test.csv", index=False)
    sample = pd.DataFrame({"id": layout.row_ids(["A"]), "mask_rle": "-1"})
    sample.to_csv(submission / "sample_submission.csv", index=False)
    given = ["--masks", submission / "masks", "--data", submission, "--size", 4, 1]
    agrees = fisheye("check", "submission", submission / "one.csv", *given)
    assert agrees.exit_code == 0 and "pixel by pixel" in agrees.stdout
    (submission / "run.yaml").write_text("submit: {parameters: {submission_size: [4, 1]}}")
    assert fisheye("check", "submission", submission / "one.csv", *given[:4]).exit_code == 0, "size of the run"
    differs = fisheye("check", "submission", submission / "two.csv", *given)
    assert differs.exit_code == 1 and "differs from" in differs.stderr


def test_an_impossible_sample_is_refused(tmp_path):
    done = fisheye("sample", "--out", tmp_path / "set", "--test", -1)
    assert done.exit_code == 1 and "must be 0 or more" in done.stderr


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "Error: interrupted\n"),
        (Interrupted("02_train was interrupted."), 130, "Error: 02_train was interrupted.\n"),
        (OSError(28, "No space left on device", "a.png"), 1, "Error: a.png: No space left on device\n"),
        (OSError(28, "No space left on device"), 1, "Error: No space left on device\n"),
    ],
)
def test_interrupts_and_faults_of_the_disk_are_one_sentence(error, code, said, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(layout, "check", fail)
    done = fisheye("check", "data", "somewhere")
    assert (done.exit_code, done.stderr) == (code, said)
