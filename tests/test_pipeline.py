"""The notebooks, headless, from images to a submission."""

import importlib.util
import json
import shutil

import nbformat
import pandas as pd
import pytest
from click.testing import CliRunner

from lib import pipeline
from lib.cli import main
from lib.dataset import image_files, layout
from lib.errors import InputError
from lib.files import digest, read_json, read_yaml
from lib.run import Run

SMALL = {"scale": [192, 108], "crop_size": [96, 160], "num_workers": 0}
QUICK = ("-p", "max_iters", "2", "-p", "batch_size", "2", "-p", "options", json.dumps(SMALL))
SUBMISSION = ("-p", "submission_size", "[96, 54]")

pytestmark = pytest.mark.slow


def fisheye(*arguments):
    """Return the outcome of ``fisheye ARGUMENTS``: exit_code, stdout, stderr."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def run(sample, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    done = fisheye("run", "--data", sample, "--out", out, *QUICK, *SUBMISSION)
    assert done.exit_code == 0, done.output
    return out


@pytest.mark.slow
def test_the_notebooks_lead_from_images_to_a_submission(sample, run):
    table = pd.read_csv(run / "submission.csv", dtype=str)
    assert table["id"].tolist() == layout.read_sample(sample)
    record = read_yaml(run / "run.yaml")
    assert list(record) == list(pipeline.STAGES)
    assert record["submit"]["parameters"]["submission_size"] == [96, 54]
    assert 0 <= record["train"]["results"]["val_mIoU"] <= 1
    for name, stage in pipeline.STAGES.items():
        cells = nbformat.read(run / "notebooks" / stage.notebook, as_version=4).cells
        pictures = [o for c in cells if c.cell_type == "code" for o in c.outputs if "image/png" in o.get("data", {})]
        assert pictures, f"{name} shows no picture"


@pytest.mark.slow
def test_a_warm_start_on_the_plain_source_comes_first(sample, tmp_path):
    out = tmp_path / "run"
    given = ["run", "--data", sample, "--out", out, *QUICK, "--to", "train"]
    first_time = [*given, "--warm-start", "3", "-p", "appearance", "none"]
    assert fisheye(*first_time).exit_code == 0
    begun = Run(out).warm_start
    record, first = read_yaml(out / "run.yaml"), read_yaml(begun / "run.yaml")
    assert not first["augment"]["parameters"]["augment"] and first["train"]["parameters"]["max_iters"] == 3
    assert record["augment"]["parameters"]["appearance"] == "none" and record["train"]["parameters"]["max_iters"] == 2
    assert record["train"]["parameters"]["load_from"] == str(Run(begun).best_checkpoint())
    resumed = fisheye(*first_time, "--resume")
    assert resumed.exit_code == 0 and resumed.stdout.count("skipped") == 4
    assert read_yaml(begun / "run.yaml") == first
    forgotten = fisheye(*given, "-p", "appearance", "none", "--resume")
    assert forgotten.exit_code == 1 and "was begun with --warm-start 3" in forgotten.stderr
    assert "expected: one of them" in fisheye(*first_time, "-p", "load_from", "x.pth").stderr
    assert "--warm-start -1" in fisheye(*given, "--warm-start", "-1").stderr
    assert "does not train" in fisheye(*given, "--warm-start", "3", "--from", "infer", "--to", "submit").stderr
    late = ["-p", "self_training", "true", "-p", "options", '{"self_training.warmupp": 0}']
    assert "warmupp is no setting" in fisheye(*first_time, *late).stderr


@pytest.mark.slow
def test_resuming_skips_what_is_done_and_repeats_what_is_not(sample, run, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(run, out)
    given = ["run", "--data", sample, "--out", out, *QUICK, *SUBMISSION, "--resume"]
    record = read_yaml(out / "run.yaml")
    again = fisheye(*given)
    assert again.exit_code == 0, again.output
    assert again.stdout.count("skipped") == 4, "a copied run keeps its results"
    assert read_yaml(out / "run.yaml") == record
    (out / "notebooks" / "02_train.failed.ipynb").touch()
    shutil.rmtree(out / "masks")
    assert fisheye(*given, "--to", "infer").stdout.count("skipped") == 2
    assert not (out / "notebooks" / "02_train.failed.ipynb").exists(), "the failure is over"
    assert len(list((out / "masks").glob("*.png"))) == len(layout.read_split(sample, "test"))


@pytest.mark.slow
def test_what_follows_a_stage_that_ran_again_runs_again(sample, run, tmp_path):
    """New masks, then resume: the old submission must not be called done."""
    out = tmp_path / "run"
    shutil.copytree(run, out)
    given = ["run", "--data", sample, "--out", out, *QUICK, *SUBMISSION]
    before = (out / "submission.csv").read_bytes()
    redone = fisheye(*given, "-p", "flip", "true", "--from", "infer", "--to", "infer", "--overwrite")
    assert redone.exit_code == 0, redone.output
    assert "submit" not in read_yaml(out / "run.yaml")
    resumed = fisheye(*given, "-p", "flip", "true", "--resume")
    assert resumed.exit_code == 0 and resumed.stdout.count("skipped") == 3
    assert (out / "submission.csv").read_bytes() != before


@pytest.mark.slow
def test_a_replaced_test_image_is_noticed(sample, run, tmp_path):
    data, out = tmp_path / "data", tmp_path / "run"
    shutil.copytree(sample, data)
    shutil.copytree(run, out)
    item = layout.read_split(data, "test")[1]
    image_files.write_png(item.image, 255 - image_files.read_image(item.image))
    given = ["run", "--data", data, "--out", out, *QUICK, *SUBMISSION]
    refused = fisheye(*given, "--from", "infer")
    assert refused.exit_code == 1 and f"changed: {item.image.relative_to(data)}" in refused.stderr
    redone = fisheye(*given, "--resume")
    assert redone.exit_code == 0 and redone.stdout.count("skipped") == 2, redone.output
    assert f"03_infer ... again: {out}/masks holds results made from other inputs (changed: " in redone.stdout
    assert f"{item.image.relative_to(data)})" in redone.stdout
    assert digest(item.image) in read_json(out / "masks" / "inputs.json").values()


@pytest.mark.slow
def test_a_corrected_label_and_a_stage_that_ran_alone_are_noticed(sample, run, tmp_path):
    data, out = tmp_path / "data", tmp_path / "run"
    shutil.copytree(sample, data)
    shutil.copytree(run, out)
    label = layout.read_split(data, "train_source")[0].label
    values = image_files.read_label(label)
    values[:9] = 3
    image_files.write_png(label, values)
    given = ["run", "--data", data, "--out", out, *QUICK, *SUBMISSION]
    alone = fisheye(*given, "--to", "augment", "--overwrite")
    assert alone.exit_code == 0, alone.output
    refused = fisheye(*given, "--from", "train")
    assert refused.exit_code == 1 and "train holds results made from other inputs (changed: augmented" in refused.stderr
    resumed = fisheye(*given, "--resume")
    assert resumed.exit_code == 0 and resumed.stdout.count("skipped") == 1, resumed.output
    assert "02_train ... again: " in resumed.stdout and "03_infer ... again: " in resumed.stdout
    assert fisheye(*given, "--resume").stdout.count("skipped") == 4


@pytest.mark.slow
def test_restarting_begins_anew_and_overwriting_does_not(sample, run, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(run, out)
    given = ["run", "--data", sample, "--out", out, *QUICK, *SUBMISSION, "--from", "infer", "--to", "infer"]
    mask = next((out / "masks").glob("*.png"))
    before = mask.stat().st_mtime_ns
    kept = fisheye(*given, "--overwrite")
    assert kept.exit_code == 0 and f"{out}/masks: options and inputs are the same" in kept.stdout, kept.output
    assert mask.stat().st_mtime_ns == before
    assert fisheye(*given, "--restart").exit_code == 0
    assert mask.stat().st_mtime_ns > before


def test_two_runs_in_one_folder_are_refused(sample, tmp_path):
    with Run(tmp_path / "run").locked("pipeline"):
        refused = fisheye("run", "--data", sample, "--out", tmp_path / "run")
    assert refused.exit_code == 1 and "run is in use by process" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["demo_segformer", "demo_mask2former"])
def test_other_heads_learn_and_lead_to_a_submission(sample, run, tmp_path, recipe):
    """By the recipe's name alone; only its sizes are shrunk, for the test's speed."""
    from lib.stages.train import scalars

    if recipe == "demo_mask2former" and not importlib.util.find_spec("mmdet"):
        pytest.skip("mmdetection is not installed (make mask2former)")
    out = tmp_path / "run"
    later = ("train", "masks", "visualization", "notebooks", "submission.csv")
    shutil.copytree(run, out, ignore=shutil.ignore_patterns(*later))
    small = ["-p", "max_iters", "20", "-p", "options", json.dumps(SMALL), *SUBMISSION]
    done = fisheye("run", "--data", sample, "--out", out, "--from", "train", "--recipe", recipe, *small)
    assert done.exit_code == 0, done.output
    losses = scalars(out)["loss"][1]
    assert losses[-1] < 0.95 * losses[0]
    assert pd.read_csv(out / "submission.csv", dtype=str)["id"].tolist() == layout.read_sample(sample)


@pytest.mark.slow
def test_faulty_files_are_said_in_one_sentence(sample, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(sample, data)
    label = data / "train_source_gt" / "TRAIN_SOURCE_0002.png"
    values = image_files.read_label(label)
    values[3, 4] = 37
    image_files.write_png(label, values)
    image = data / "train_target_image" / "TRAIN_TARGET_0001.png"
    image.write_bytes(image.read_bytes()[:-2000])
    done = fisheye("run", "--data", data, "--out", tmp_path / "run")
    assert done.exit_code == 1 and "Traceback" not in done.stderr
    assert "TRAIN_SOURCE_0002.png: label value 37 (allowed: 0–11, 255)" in done.stderr
    assert "TRAIN_TARGET_0001.png: truncated PNG" in done.stderr
    assert not (tmp_path / "run" / "train").exists(), "later stages were not started"


@pytest.mark.slow
def test_a_failing_cell_is_named(run, tmp_path, sample):
    out = tmp_path / "run"
    shutil.copytree(run, out)
    given = ["run", "--data", sample, "--out", out]
    image = next((out / "augmented" / "train_source_image").glob("*.png"))
    image.write_bytes(image.read_bytes()[:-2000])
    failed = fisheye(*given, *QUICK, "--from", "train", "--to", "train")
    assert failed.exit_code == 1
    assert "02_train.ipynb, cell " in failed.stderr and f"{image.name}: truncated PNG" in failed.stderr
    executed, former = (out / "notebooks" / f"02_train{name}.ipynb" for name in (".failed", ""))
    assert str(executed) in failed.stderr and nbformat.read(executed, as_version=4).cells
    assert former.read_bytes() == (run / "notebooks" / former.name).read_bytes(), "the finished training's own"
    (out / "run.yaml").unlink()
    (out / "augmented" / "parameters.yaml").unlink()
    assert fisheye(*given, "--to", "augment").exit_code == 1
    assert not list((out / "notebooks").glob("01_augment.failed*")), "nothing was finished there"


def test_unknown_options_and_stages_are_refused(sample, tmp_path):
    with pytest.raises(InputError, match="'max_iter' is in none of the notebooks .*max_iters"):
        pipeline.run_notebooks(sample, tmp_path, parameters={"max_iter": 3})
    with pytest.raises(InputError, match="recipe: 'nosuch' is neither a file nor one of: demo"):
        pipeline.run_notebooks(sample, tmp_path, parameters={"recipe": "nosuch"})
    with pytest.raises(InputError, match="--from infer comes after --to train"):
        pipeline.run_notebooks(sample, tmp_path, first="infer", last="train")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("copies", "many", "a whole number"),
        ("flip", "maybe", "true or false"),
        ("min_region", "lots", "a number"),
        ("seed", True, "a whole number"),
        ("submission_size", 960, "width and height"),
    ],
)
def test_values_that_are_not_allowed_are_refused_before_anything_runs(name, value, expected, tmp_path):
    with pytest.raises(InputError, match=f"{name}: {value!r} .expected: {expected}"):
        pipeline.run_notebooks(tmp_path, tmp_path / "run", parameters={name: value})
    assert not (tmp_path / "run").exists()


def test_files_are_named_as_seen_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.pth").touch()
    own = str(tmp_path / "own.pth")
    absolute = pipeline._absolute("load_from", {"checkpoint": "own.pth", "classes": "ade20k"})
    assert absolute == {"checkpoint": own, "classes": "ade20k"}
    assert pipeline._absolute("checkpoint", ["own.pth", "target"]) == [own, "target"]
    assert pipeline._absolute("lens", "own.pth") == "own.pth"


def test_a_warm_start_has_intervals_of_its_own_length(tmp_path, monkeypatch):
    def inner(*arguments, parameters, **given):
        assert parameters["options"] == {"ema": 0.1} and parameters["max_iters"] == 20
        raise InterruptedError

    run_notebooks = pipeline.run_notebooks
    monkeypatch.setattr(pipeline, "run_notebooks", inner)
    monkeypatch.setattr(pipeline.preflight, "check", lambda *_: ([], []))  # there is no data set
    options = {"val_interval": 300, "warmup_iters": 50, "ema": 0.1}
    with pytest.raises(InterruptedError):
        run_notebooks("data", tmp_path, parameters={"options": options, "max_iters": 900}, warm_start=20)
