"""Stage 02 on a tiny data set: real training in a child process, kills and resumptions, refusals."""

import json
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from lib import recipes
from lib.dataset.classes import BACKGROUND, CLASSES_WITH_BACKGROUND
from lib.errors import InputError
from lib.files import digest, read_yaml
from lib.run import Run
from lib.stages.train import TrainOptions, scalars, train
from lib.training.hardware import Hardware
from lib.training.launcher import launch
from tests.builders import QUICK, SMALL, in_worker, kill_when, start, tree


@pytest.mark.slow
def test_training_leaves_checkpoint_config_and_curves(trained):
    folder = trained / "train"
    best = Run(trained).best_checkpoint()
    assert best.name.startswith("best_mIoU_iter_")
    losses = scalars(trained)
    assert all(0 <= value <= 1 for value in losses["mIoU"][1])
    assert (folder / "config.json").exists() and (folder / "curves.png").exists() and (folder / "train.log").exists()
    assert list(folder.glob("*/vis_data/events.out.tfevents*")), "scalars for TensorBoard"
    record = Run(trained).entry("train")
    assert record["results"]["val_mIoU"] == max(losses["mIoU"][1])
    assert record["parameters"]["recipe"] == "demo" and record["results"]["checkpoint"] == best.name


def test_a_training_without_its_best_checkpoint_is_not_done(augmented, tmp_path):
    shutil.copytree(augmented, tmp_path / "run")
    run, options = Run(tmp_path / "run"), TrainOptions(out=tmp_path / "run", **QUICK)
    run.claim("train", options)
    best = run.train / "best_mIoU_iter_4.pth"
    best.write_bytes(b"weights")
    (run.train / "iter_2.pth").write_bytes(b"older weights")
    with run.recorded("train", options) as results:
        results.update(checkpoint=best.name, digest=digest(best))
    assert run.is_done("train", options)
    best.write_bytes(b"weigh")
    assert not run.is_done("train", options), "cut short"
    best.unlink()
    assert not run.is_done("train", options), "gone"


def test_scalars_have_a_fixed_order(tmp_path):
    folder = tmp_path / "train" / "now" / "vis_data"
    folder.mkdir(parents=True)
    for order in (1, -1):
        entry = dict.fromkeys(["lr", "mIoU", "confident", "target", "source", "loss"][::order], 0.5) | {"step": 1}
        (folder / "scalars.json").write_text(json.dumps(entry) + "\n")
        assert list(scalars(tmp_path)) == ["loss", "source", "target", "confident", "mIoU", "lr"]


@pytest.mark.slow
def test_a_finished_training_is_not_repeated(trained):
    before = Run(trained).best_checkpoint().stat().st_mtime_ns
    assert train(TrainOptions(out=trained, **QUICK)).stat().st_mtime_ns == before
    with pytest.raises(InputError, match="seed: 0 there, 5 now"):
        train(TrainOptions(out=trained, **QUICK, seed=5))


def test_a_changed_recipe_file_is_noticed(tmp_path):
    own = tmp_path / "own.py"
    own.write_text(recipes.load("demo").pretty_text)
    before = TrainOptions(out=tmp_path, recipe=own).inputs()
    assert TrainOptions(out=tmp_path, recipe=own).inputs() == before
    own.write_text(own.read_text().replace("max_iters = 200", "max_iters = 201"))
    after = TrainOptions(out=tmp_path, recipe=own).inputs()
    assert [name for name in before if before[name] != after[name]] == ["recipe"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_iters": -3}, "max_iters: -3 .expected: a whole number"),
        ({"batch_size": 0}, "batch_size: 0"),
        ({"processes": 0}, "processes: 0"),
        ({"amp": "half"}, "amp: 'half'"),
    ],
)
def test_values_out_of_range_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        TrainOptions(**given)


@pytest.mark.slow
def test_two_processes_train_together_on_the_cpu(augmented, tmp_path):
    out = tmp_path / "two"
    shutil.copytree(augmented, out)
    train(TrainOptions(out=out, processes=2, **QUICK))
    assert np.isfinite(scalars(out)["mIoU"][1]).all()
    assert len(list((out / "train").glob("best_mIoU_*.pth"))) == 1
    assert Run(out).entry("train")["results"]["processes"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_crash_is_told_in_the_process_own_words(processes, tmp_path, monkeypatch):
    run = Run(tmp_path)
    run.train.mkdir()
    in_worker(ABORT, tmp_path, monkeypatch)
    with pytest.raises(RuntimeError, match=r"train\.log") as crash:
        launch(run, Hardware(processes), 1, 0)
    assert "exit code -6 (SIGABRT)" in str(crash.value)
    said = str(crash.value)
    assert "Fatal Python error: Aborted" in said and "in work" in said
    assert "distributed" not in said, "how torchrun ended"


ABORT = """
import os
from lib.recipes import config_file

config_file.read_config = lambda path: os.abort()
"""
FAULT = """
from lib.errors import InputError
from lib.recipes import config_file

def read_config(path):
    raise InputError("a.png: wrong.\\n  b.png: wrong.")

config_file.read_config = read_config
"""


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_fault_of_the_users_is_told_alone(processes, tmp_path, monkeypatch):
    run = Run(tmp_path)
    run.train.mkdir()
    in_worker(FAULT, tmp_path, monkeypatch)
    with pytest.raises(InputError) as fault:
        launch(run, Hardware(processes), 1, 0)
    assert str(fault.value) == "a.png: wrong.\n  b.png: wrong."


@pytest.mark.slow
def test_killed_training_goes_on_from_its_last_checkpoint(augmented, tmp_path):
    out = tmp_path / "killed"
    shutil.copytree(augmented, out)
    quick = {"batch_size": 2, "options": {**SMALL, "max_iters": 30, "warmup_iters": 3, "val_interval": 5}}
    options = f"TrainOptions(out={str(out)!r}, **{quick!r})"
    process = start(f"from lib.stages.train import TrainOptions, train; train({options})")
    kill_when(process, lambda: any((out / "train").glob("iter_*.pth")))
    saved = sorted(int(p.stem.split("_")[1]) for p in (out / "train").glob("iter_*.pth"))
    assert Run(out).entry("train") is None and saved[-1] < 30
    _wait_until_gone(out)
    train(TrainOptions(out=out, **quick))
    log = (out / "train" / "train.log").read_text()
    assert "resumed epoch" in log
    assert (out / "train" / "iter_30.pth").exists() and Run(out).best_checkpoint()
    assert scalars(out)["mIoU"][0] == [5, 10, 15, 20, 25, 30]


def _wait_until_gone(out: Path) -> None:
    """The child ends by itself when its parent is killed."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        alive = subprocess.run(["pgrep", "-f", f"lib.training.worker {out}"], capture_output=True, text=True).stdout
        if not alive:
            return
        time.sleep(0.2)
    raise AssertionError("the training process outlived its parent")


@pytest.mark.slow
def test_start_weights_of_another_variant_are_refused(trained, augmented, tmp_path):
    out = tmp_path / "other"
    shutil.copytree(augmented, out)
    wide = {
        **SMALL,
        "model.backbone.channels": 32,
        "model.decode_head.in_channels": [32, 64, 128, 256],
        "model.auxiliary_head.in_channels": 128,
    }
    with pytest.raises(InputError, match="best_mIoU_iter_.*pth") as refusal:
        train(TrainOptions(out=out, max_iters=2, batch_size=2, options=wide, load_from=Run(trained).best_checkpoint()))
    assert "\n" not in str(refusal.value)


@pytest.mark.slow
def test_a_refused_request_keeps_the_former_training(trained, tmp_path):
    before = tree(trained / "train")
    with pytest.raises(InputError, match="gone.pth: no such file"):
        train(TrainOptions(out=trained, **QUICK, load_from=tmp_path / "gone.pth", overwrite=True))
    assert tree(trained / "train") == before


@pytest.mark.slow
def test_start_weights_are_used(trained, augmented, tmp_path):
    import torch

    out = tmp_path / "warm"
    shutil.copytree(augmented, out)
    still = {**SMALL, "optim_wrapper.optimizer.lr": 0.0}
    best = Run(trained).best_checkpoint()
    train(TrainOptions(out=out, max_iters=1, batch_size=2, options=still, load_from=best))
    before, after = (torch.load(p, weights_only=False)["state_dict"] for p in (best, Run(out).best_checkpoint()))
    for name, value in before.items():  # what is normalised goes on being counted
        assert torch.equal(value, after[name]) or name.endswith(("running_mean", "running_var", "num_batches_tracked"))


@pytest.mark.slow
def test_other_classes_carry_over_by_name_when_asked(trained, augmented, tmp_path, monkeypatch):
    import torch
    from mmseg.utils import get_classes

    content = torch.load(Run(trained).best_checkpoint(), weights_only=False)["state_dict"]
    for name in content:
        if ".conv_seg." in name:  # rows numbered from 1; Cityscapes has 19 of them
            rows = torch.arange(1.0, 20).reshape(-1, *[1] * (content[name].ndim - 1))
            content[name] = rows.expand(19, *content[name].shape[1:]).clone()
    torch.save({"state_dict": content}, tmp_path / "cityscapes.pth")
    monkeypatch.setenv("INTERNIMAGE_WEIGHTS", str(tmp_path))
    out = tmp_path / "other"
    shutil.copytree(augmented, out)
    still = {**SMALL, "optim_wrapper.optimizer.lr": 0.0}
    with pytest.raises(InputError, match="19 rows in the file and 13 in the network"):
        train(TrainOptions(out=out, max_iters=1, batch_size=2, options=still, load_from="cityscapes.pth"))
    start = {"checkpoint": "cityscapes", "classes": "cityscapes"}
    best = train(TrainOptions(out=out, max_iters=1, batch_size=2, options=still, load_from=start))
    bias = torch.load(best, weights_only=False)["state_dict"]["decode_head.conv_seg.bias"].tolist()
    assert (
        bias[:2] == [1, 2] and bias[CLASSES_WITH_BACKGROUND.index("Car")] == get_classes("cityscapes").index("car") + 1
    )
    assert bias[BACKGROUND] == 0
    assert "Construction from building" in (out / "train" / "train.log").read_text()
    assert read_yaml(out / "train" / "parameters.yaml")["load_from"] == start


def test_training_needs_an_augmented_set(tmp_path):
    with pytest.raises(InputError, match="Run 01_augment"):
        train(TrainOptions(out=tmp_path))


@pytest.mark.parametrize(
    "given",
    [
        {"options": {**SMALL, "optim_wrapper.optimizer.lrr": 1.0}},
        {"options": {**SMALL, "optim_wrapper.optimizer.betas": [2.0, 0.9]}},
        {"options": {**SMALL, "model.data_preprocessor.std": [0.0, 1.0, 1.0]}},
        {"options": {**SMALL, "val_interval": 9}},
        {"batch_size": 1},
    ],
)
def test_a_value_that_only_training_would_refuse_keeps_the_former_training(given, augmented, tmp_path):
    out = tmp_path / "former"
    shutil.copytree(augmented, out)
    (out / "train").mkdir()
    for name in ("parameters.yaml", "iter_4.pth"):
        (out / "train" / name).write_text("seed: 5\n")
    before = tree(out)
    with pytest.raises(InputError):
        train(TrainOptions(out=out, **QUICK | given, overwrite=True))
    (out / "checked.json").write_bytes(before["checked.json"])  # notes that the data are sound
    assert tree(out) == before


@pytest.mark.slow
def test_a_resumed_training_ends_where_an_undisturbed_one_does(augmented, tmp_path):
    import torch

    quick = dict(max_iters=4, batch_size=2, options={**SMALL, "model.decode_head.dropout_ratio": 0.1})
    for name in ("undisturbed", "resumed"):
        shutil.copytree(augmented, tmp_path / name)
    train(TrainOptions(out=tmp_path / "undisturbed", **quick))
    train(TrainOptions(out=tmp_path / "resumed", **quick))
    run = Run(tmp_path / "resumed")
    before = run.last_checkpoint()
    for path in run.train.glob("*.pth"):
        if path.name != "iter_2.pth":
            path.unlink()
    assert run.last_checkpoint()
    (run.folder / "run.yaml").unlink()
    shutil.copy(augmented / "run.yaml", run.folder)
    train(TrainOptions(out=run.folder, **quick))
    first, second = (
        torch.load(tmp_path / name / "train" / before.name, weights_only=True)["state_dict"]
        for name in ("undisturbed", "resumed")
    )
    assert all(torch.equal(first[key], second[key]) for key in first)
