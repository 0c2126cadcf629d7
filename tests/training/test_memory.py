"""Accumulation, clipping, averages and sharded weights, alone and after a stop."""

import shutil

import pytest
import torch

from lib.errors import InputError
from lib.recipes.config_file import read_config, write_config
from lib.run import Run
from lib.stages.train import TrainOptions, train
from lib.training.config import build_config
from lib.training.hardware import Hardware, mixed_precision
from lib.training.launcher import launch
from tests.builders import SMALL, in_worker

NAME = "backbone.levels.0.blocks.0.dcn.input_proj.weight"
STILL = {**SMALL, "max_iters": 4, "warmup_iters": 0, "val_interval": 2}


def run(augmented, folder, processes=1, **options):
    """Four iterations on crops that are always the same, as stage 02 runs them; returns the last checkpoint."""
    run, hardware = Run(folder), Hardware.detect(processes)
    options = {**STILL, **options}
    cfg = build_config(
        "demo",
        augmented / "augmented",
        batch_size=2,
        options=options,
        amp=False,
        hardware=hardware,
        work_dir=run.train,
    )
    cfg.train_dataloader.dataset.pipeline[2:-1] = [dict(type="Resize", scale=(160, 96), keep_ratio=False)]
    run.train.mkdir(parents=True, exist_ok=True)
    write_config(cfg, run.config)
    launch(run, hardware, 4, 0)
    return saved(folder, 4)


def saved(folder, iteration):
    return torch.load(folder / "train" / f"iter_{iteration}.pth", weights_only=False)


def stopped(folder, copy):
    """A folder that a training left after two iterations."""
    (copy / "train").mkdir(parents=True)
    shutil.copy(folder / "train" / "iter_2.pth", copy / "train")
    return copy


def weights(checkpoint, key="state_dict"):
    return {name: value for name, value in checkpoint[key].items() if value.is_floating_point()}


def steps(checkpoint):
    return {int(state["step"]) for state in checkpoint["optimizer"]["state"].values()}


AVERAGED = dict(accumulate=2, clip_grad=1.0, ema=0.5)


@pytest.fixture(scope="module")
def averaged(augmented, tmp_path_factory):
    """A finished training with two iterations per step, and an average of half and half."""
    folder = tmp_path_factory.mktemp("runs") / "averaged"
    run(augmented, folder, **AVERAGED)
    return folder


@pytest.mark.slow
def test_averages_are_kept_and_used(averaged):
    first, last = saved(averaged, 2), saved(averaged, 4)
    assert (steps(first), steps(last)) == ({1}, {2})
    # mmengine files the average as the weights, and the weights as `ema_state_dict`. It is started by the first
    # iteration, before any step, and takes in each step once: here the first, in the third iteration.
    raw = {name.removeprefix("module."): value for name, value in weights(first, "ema_state_dict").items()}
    start = weights(first)
    assert not torch.equal(start[NAME], raw[NAME])
    for key, value in weights(last).items():
        if "running" not in key:
            torch.testing.assert_close(value, (start[key] + raw[key]) / 2)
    (best,) = (averaged / "train").glob("best_mIoU_iter_*.pth")
    scored = last if best.name.endswith("_4.pth") else first
    best = torch.load(best, weights_only=False)
    assert all(torch.equal(best["state_dict"][key], value) for key, value in weights(scored).items())


@pytest.mark.slow
def test_inference_uses_the_average(averaged):
    from lib.prediction.network import Network

    used = Network(Run(averaged).config, averaged / "train" / "iter_4.pth").model.state_dict()
    assert all(torch.equal(used[name], value) for name, value in weights(saved(averaged, 4)).items())


@pytest.mark.slow
def test_a_stopped_training_ends_with_the_same_weights(averaged, augmented, tmp_path):
    folder = stopped(averaged, tmp_path / "stopped")
    second, first = run(augmented, folder, **AVERAGED), saved(averaged, 4)
    assert "resumed epoch: 0, iter: 2" in Run(folder).log.read_text()
    for key in ("state_dict", "ema_state_dict"):
        assert all(torch.equal(value, second[key][name]) for name, value in first[key].items())
    for name, state in first["optimizer"]["state"].items():
        assert all(torch.equal(value, second["optimizer"]["state"][name][key]) for key, value in state.items())


CRASH = """
import os
from pathlib import Path

from lib.recipes import config_file

read_config = config_file.read_config


def read_and_add_hook(path):
    from mmengine.hooks import Hook
    from mmengine.registry import HOOKS

    @HOOKS.register_module()
    class Crash(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            mark = Path(runner.work_dir) / f"crash-{runner.iter}"
            if mark.exists():
                mark.unlink()
                os.abort()

    cfg = read_config(path)
    cfg.custom_hooks.append(dict(type="Crash"))
    return cfg


config_file.read_config = read_and_add_hook
"""


def crashing(averaged, folder, monkeypatch, *iterations):
    """Run a training like the one in ``averaged`` that native code brings down before these iterations (from 0)."""
    run = Run(folder)
    run.train.mkdir(parents=True)
    in_worker(CRASH, folder, monkeypatch)
    cfg = read_config(Run(averaged).config)
    cfg.work_dir = str(run.train)
    write_config(cfg, run.config)
    for iteration in iterations:
        (run.train / f"crash-{iteration}").touch()
    launch(run, Hardware(), 4, 0)


@pytest.mark.slow
def test_a_training_that_crashed_goes_on_from_what_it_had_come_to(averaged, tmp_path, monkeypatch, capfd):
    crashing(averaged, tmp_path / "late", monkeypatch, 2)
    assert "The training crashed (exit code -6 (SIGABRT)" in capfd.readouterr().err
    for name, value in saved(averaged, 4)["state_dict"].items():
        assert torch.equal(value, saved(tmp_path / "late", 4)["state_dict"][name])


@pytest.mark.slow
def test_a_training_that_crashes_again_without_progress_is_given_up(averaged, tmp_path, monkeypatch):
    with pytest.raises(RuntimeError, match="exit code -6(.|\n)*Fatal Python error: Aborted"):
        crashing(averaged, tmp_path / "early", monkeypatch, 1)


@pytest.mark.slow
def test_spread_weights_train_as_whole_ones(augmented, tmp_path):
    options = dict(processes=2, accumulate=2, clip_grad=1.0)
    whole = run(augmented, tmp_path / "whole", **options)
    options |= {"shard": True, "model.backbone.with_cp": True}
    spread = run(augmented, tmp_path / "spread", **options)
    again = run(augmented, stopped(tmp_path / "spread", tmp_path / "again"), **options)
    assert {type(value) for value in spread["state_dict"].values()} == {torch.Tensor}
    assert set(spread["optimizer"]["state"]) <= set(spread["state_dict"]), "not spread: the state is kept by number"
    for name, value in weights(whole).items():
        torch.testing.assert_close(spread["state_dict"][name], value, rtol=1e-4, atol=1e-5)
        assert torch.equal(spread["state_dict"][name], again["state_dict"][name])
    assert steps(spread) == steps(again) == {2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(accumulate=0), r"accumulate: 0 \(expected: a whole number from 1"),
        (dict(clip_grad=-1.0), r"clip_grad: -1.0 \(expected: a positive number"),
        (dict(ema=1.5), r"ema: 1.5 \(expected: a number between 0 and 1"),
        (dict(ema=0.1, shard=True), r"ema: 0.1 \(expected: null with shard"),
    ],
)
def test_entries_out_of_range_are_named(options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        build_config("demo", tmp_path, options=options)


def test_checkpoints_come_between_steps(tmp_path):
    cfg = build_config("demo", tmp_path, options=dict(accumulate=3, val_interval=100))
    assert cfg.val_interval == cfg.default_hooks.checkpoint.interval == cfg.train_cfg.val_interval == 102
    assert cfg.optim_wrapper.accumulative_counts == 3


def test_precisions_are_chosen():
    def chosen(amp, bf16):
        entries = mixed_precision(amp, bf16)
        return entries["dtype"], entries["loss_scale"]["enabled"]

    assert chosen(True, True) == chosen("bf16", False) == ("bfloat16", False)
    assert chosen(True, False) == chosen("fp16", True) == ("float16", True)
    with pytest.raises(InputError, match="shard: this GPU has no bf16"):
        mixed_precision(True, False, shard=True)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (dict(amp="half"), "amp: 'half'"),
        (dict(processes=1, options={**SMALL, "shard": True}), "shard: with processes=1"),
        (dict(processes=2, amp="fp16", options={**SMALL, "shard": True}), "shard: with processes=2 and amp='fp16'"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(request_, message, augmented):
    with pytest.raises(InputError, match=message):
        train(TrainOptions(out=augmented, **request_))
    assert not (augmented / "train").exists()
