"""A training resumes from its newest sound checkpoint, which holds data alone."""

import shutil

import pytest
import torch

from lib.files import read_yaml, write_yaml
from lib.run import Run, iteration
from lib.stages.train import TrainOptions, scalars, train
from lib.training.checkpoints import set_damaged_aside
from tests.builders import QUICK, SMALL, train_copy, training_run

LONGER = {**QUICK, "options": {**SMALL, "val_interval": 2}}


@pytest.fixture(scope="module")
def longer(augmented, tmp_path_factory):
    """A finished training with checkpoints of two iterations."""
    return train_copy(augmented, tmp_path_factory.mktemp("runs") / "longer", LONGER)


def unfinished(out):
    record = read_yaml(out / "run.yaml")
    del record["train"]
    write_yaml(out / "run.yaml", record)


def test_damaged_checkpoints_are_named(tmp_path, capsys):
    run = training_run(tmp_path, 1, 2, 3)
    for number in (2, 3):
        path = run.train / f"iter_{number}.pth"
        path.write_bytes(path.read_bytes()[:1000])
    set_damaged_aside(run)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "iter_3.pth: cut short" in said[0]
    assert said[1].endswith("It is now iter_2.pth.damaged, and the training resumes from iter_1.pth.")
    assert [path.name for path in run.checkpoints()] == ["iter_1.pth"]
    (run.train / "iter_1.pth").write_bytes(b"")
    set_damaged_aside(run)
    assert "begins anew" in capsys.readouterr().err and run.last_checkpoint() is None


def test_a_damaged_best_checkpoint_is_set_aside(tmp_path, capsys):
    run = training_run(tmp_path, 1, 2)
    best = run.train / "best_mIoU_iter_1.pth"
    best.write_bytes((run.train / "iter_1.pth").read_bytes()[:1000])
    set_damaged_aside(run)
    assert "best_mIoU_iter_1.pth: cut short" in capsys.readouterr().err
    assert [path.name for path in run.checkpoints()] == ["iter_1.pth", "iter_2.pth"]


@pytest.mark.slow
def test_checkpoints_hold_data_alone(longer):
    for path in Run(longer).train.glob("*.pth"):
        assert "state_dict" in torch.load(path, weights_only=True)


@pytest.mark.slow
def test_a_training_resumes_from_the_newest_sound_checkpoint(longer, tmp_path, capsys):
    out = tmp_path / "damaged"
    shutil.copytree(longer, out)
    unfinished(out)
    older, path = Run(out).checkpoints()[-2:]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    train(TrainOptions(out=out, **LONGER))
    said = capsys.readouterr().err
    assert "iter_4.pth: cut short" in said and f"resumes from {older.name}" in said
    assert f"resumed epoch: 0, iter: {iteration(older)}" in Run(out).log.read_text()
    assert torch.load(path, weights_only=True)["meta"]["iter"] == 4
    assert scalars(out)["mIoU"][0] == scalars(longer)["mIoU"][0]


@pytest.mark.slow
def test_a_finished_training_of_an_earlier_version_gets_its_config(trained, tmp_path):
    out = tmp_path / "earlier"
    shutil.copytree(trained, out)
    config = Run(out).config
    before = config.read_text()
    config.rename(config.with_suffix(".py"))
    train(TrainOptions(out=out, **QUICK))
    assert config.read_text() == before.replace(str(trained), str(out))
