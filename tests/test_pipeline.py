"""The command line over the real notebooks."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from lib import pipeline
from lib.dataset import image_files, layout
from lib.dataset.classes import CLASSES
from lib.errors import InputError
from lib.files import read_yaml
from lib.run import Run
from lib.stages.train import scalars

ROOT = Path(__file__).parents[1]
SMALL = {"scale": [192, 108], "crop_size": [96, 160], "num_workers": 0}
QUICK = ["-p", "max_iters", "2", "-p", "batch_size", "2", "-p", "options", json.dumps(SMALL)]


@pytest.fixture(scope="module")
def run(sample, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert pipeline.main(["--data", str(sample), "--out", str(out), *QUICK, "-p", "submission_size", "[96, 54]"]) == 0
    return out


def test_the_notebooks_lead_from_images_to_a_submission(sample, run):
    table = pd.read_csv(run / "submission.csv", dtype=str)
    assert table["id"].tolist() == layout.read_sample(sample)
    record = read_yaml(run / "run.yaml")
    assert list(record) == list(pipeline.STAGES)
    assert record["submit"]["parameters"]["submission_size"] == [96, 54]
    for stage, name in pipeline.STAGES.items():
        cells = nbformat.read(run / "notebooks" / f"{name}.ipynb", as_version=4).cells
        pictures = [o for c in cells if c.cell_type == "code" for o in c.outputs if "image/png" in o.get("data", {})]
        assert pictures, f"{stage} shows no picture"


def test_a_start_on_the_plain_source_comes_first(sample, tmp_path, capsys):
    out = tmp_path / "run"
    given = ["--data", str(sample), "--out", str(out), *QUICK, "--to", "train", "--start", "3"]
    assert pipeline.main([*given, "-p", "appearance", "none"]) == 0
    begun = out / "start"
    record, first = read_yaml(out / "run.yaml"), read_yaml(begun / "run.yaml")
    assert not first["augment"]["parameters"]["augment"] and first["train"]["parameters"]["max_iters"] == 3
    assert record["augment"]["parameters"]["appearance"] == "none" and record["train"]["parameters"]["max_iters"] == 2
    assert record["train"]["parameters"]["load_from"] == str(Run(begun).best_checkpoint())
    assert pipeline.main([*given, "-p", "appearance", "none", "--resume"]) == 0
    assert capsys.readouterr().out.count("skipped") == 4 and read_yaml(begun / "run.yaml") == first
    assert pipeline.main([*given[:-2], "-p", "appearance", "none", "--resume"]) == 1
    assert "was begun with --start 3" in capsys.readouterr().err
    assert pipeline.main([*given, "-p", "load_from", "x.pth"]) == 1
    assert "expected: one of them" in capsys.readouterr().err
    assert pipeline.main([*given[:-1], "-1"]) == 1 and "--start -1" in capsys.readouterr().err
    assert (
        pipeline.main([*given, "--from", "infer", "--to", "submit"]) == 1
        and "does not train" in capsys.readouterr().err
    )
    late = ["-p", "self_training", "true", "-p", "options", '{"self_training.warmupp": 0}']
    assert pipeline.main([*given, *late]) == 1 and "warmupp is no setting" in capsys.readouterr().err


def test_resuming_skips_what_is_finished_and_repeats_what_is_not(sample, run, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(run, out)
    given = ["--data", str(sample), "--out", str(out), *QUICK, "--resume"]
    record = read_yaml(out / "run.yaml")
    assert pipeline.main([*given, "--to", "infer"]) == 0
    said = capsys.readouterr().out
    # The copied notebooks name another run folder, so their stages run again and find their work done.
    assert said.count("skipped") == 0
    assert read_yaml(out / "run.yaml")["train"] == record["train"]
    assert pipeline.main([*given, "--to", "infer"]) == 0
    assert capsys.readouterr().out.count("skipped") == 3
    (out / "notebooks" / "02_train.failed.ipynb").touch()
    shutil.rmtree(out / "masks")
    (out / "notebooks" / "03_infer.ipynb").unlink()
    assert pipeline.main([*given, "--to", "infer"]) == 0
    assert capsys.readouterr().out.count("skipped") == 2
    assert not (out / "notebooks" / "02_train.failed.ipynb").exists(), "the failure is over"
    assert len(list((out / "masks").glob("*.png"))) == len(layout.read_split(sample, "test"))


@pytest.mark.parametrize("recipe", ["demo_segformer", "demo_mask2former"])
def test_other_heads_learn_and_lead_to_a_submission(sample, run, tmp_path, recipe):
    """By the recipe's name alone; only its sizes are shrunk, for the test's speed."""
    if recipe == "demo_mask2former" and not importlib.util.find_spec("mmdet"):
        pytest.skip("mmdetection is not installed (make mask2former)")
    out = tmp_path / "run"
    later = ("train", "masks", "visualization", "notebooks", "submission.csv")
    shutil.copytree(run, out, ignore=shutil.ignore_patterns(*later))
    small = ["-p", "max_iters", "20", "-p", "options", json.dumps(SMALL), "-p", "submission_size", "[96, 54]"]
    given = ["--data", str(sample), "--out", str(out), "--from", "train", "-p", "recipe", recipe, *small]
    assert pipeline.main(given) == 0
    losses = scalars(out)["loss"][1]
    assert losses[-1] < 0.95 * losses[0]
    assert pd.read_csv(out / "submission.csv", dtype=str)["id"].tolist() == layout.read_sample(sample)


def refusal(*arguments: str) -> str:
    """What the command line says to a user, who must not see a traceback."""
    done = subprocess.run([sys.executable, "-m", "lib.pipeline", *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    return next(line for line in done.stderr.splitlines() if line.startswith("error: "))


def test_a_wrong_folder_is_said_in_one_sentence(tmp_path):
    said = refusal("--data", str(tmp_path / "gone"), "--out", str(tmp_path / "run"))
    assert "01_augment.ipynb, cell " in said and "no such folder" in said


def test_values_that_are_not_yaml_are_refused(sample, tmp_path, capsys):
    assert pipeline.main(["--data", str(sample), "--out", str(tmp_path), "-p", "max_iters", "[1,"]) == 1
    assert "error: -p max_iters '[1,' is not YAML" in capsys.readouterr().err


def test_faulty_files_are_said_in_one_sentence(sample, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(sample, data)
    label = data / "train_source_gt" / "TRAIN_SOURCE_0002.png"
    values = image_files.read_label(label)
    values[3, 4] = 37
    image_files.write_png(label, values)
    image = data / "train_target_image" / "TRAIN_TARGET_0001.png"
    image.write_bytes(image.read_bytes()[:-2000])
    done = subprocess.run(
        [sys.executable, "-m", "lib.pipeline", "--data", str(data), "--out", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "TRAIN_SOURCE_0002.png: label value 37 (allowed: 0–11, 255)" in done.stderr
    assert "TRAIN_TARGET_0001.png: truncated PNG" in done.stderr
    assert not (tmp_path / "run" / "train").exists(), "later stages were not started"


def test_unknown_parameters_and_stages_are_refused(sample, tmp_path):
    with pytest.raises(InputError, match="'max_iter' is in none of the notebooks .*max_iters"):
        pipeline.run(sample, tmp_path, parameters={"max_iter": 3})
    with pytest.raises(InputError, match="recipe: 'nosuch' is neither a file nor one of: demo"):
        pipeline.run(sample, tmp_path, parameters={"recipe": "nosuch"})
    with pytest.raises(InputError, match="--from infer comes after --to train"):
        pipeline.run(sample, tmp_path, first="infer", last="train")


def test_a_failing_cell_is_named(run, tmp_path, sample, capsys):
    out = tmp_path / "run"
    shutil.copytree(run, out)
    given = [
        "--data",
        str(sample),
        "--out",
        str(out),
        "--from",
        "train",
        "--to",
        "train",
        "-p",
        "load_from",
        "nosuch.pth",
    ]
    assert pipeline.main(given) == 1
    said = capsys.readouterr().err
    assert "02_train.ipynb, cell 4: nosuch.pth: no such file" in said
    executed, former = (out / "notebooks" / f"02_train{name}.ipynb" for name in (".failed", ""))
    assert str(executed) in said and nbformat.read(executed, as_version=4).cells
    assert former.read_bytes() == (run / "notebooks" / former.name).read_bytes(), "the finished training's own"
    (out / "run.yaml").unlink()
    (out / "augmented" / "parameters.yaml").unlink()
    assert pipeline.main([*given[:4], "--to", "augment"]) == 1
    assert not list((out / "notebooks").glob("01_augment.failed*")), "nothing was finished there"


def test_scores_are_printed_side_by_side(sample, run):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "lib.stages.submit",
            "score",
            str(run / "submission.csv"),
            "--size",
            "96",
            "54",
            "--labels",
            str(sample / "withheld" / "test_gt"),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0 and all(name in done.stdout for name in (*CLASSES, "mIoU"))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("copies", "many", "a whole number"),
        ("flip", "maybe", "true or false"),
        ("islands", "lots", "a number"),
        ("seed", True, "a whole number"),
        ("submission_size", 960, "a list"),
    ],
)
def test_values_of_another_kind_are_refused_before_anything_runs(name, value, expected, tmp_path):
    with pytest.raises(InputError, match=f"{name}: {value!r} .expected: {expected}"):
        pipeline.run(tmp_path, tmp_path / "run", parameters={name: value})
    assert not (tmp_path / "run").exists()


def test_files_are_named_as_seen_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.pth").touch()
    own = str(tmp_path / "own.pth")
    assert pipeline._absolute("load_from", {"checkpoint": "own.pth", "classes": "ade20k"}) == {
        "checkpoint": own,
        "classes": "ade20k",
    }
    assert pipeline._absolute("checkpoint", ["own.pth", "target"]) == [own, "target"]
    assert pipeline._absolute("lens", "own.pth") == "own.pth"
