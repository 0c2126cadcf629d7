"""Loss, gradient and weights that are not finite: a training ends, and no checkpoint holds them."""

import math
import shutil
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper

from lib.errors import InputError
from lib.run import Run
from lib.stages.train import TrainOptions, train
from lib.training import finite
from lib.training.finite import SKIPPED_STEPS, FiniteHook
from tests.builders import SMALL


class Scaler:
    """GradScaler's part that the hook asks."""

    def is_enabled(self):
        return True


def start(tmp_path, **wrapper):
    """A runner of one weight, and its hook."""
    model = torch.nn.Linear(1, 1, bias=False)
    hub = MessageHub.get_instance(str(tmp_path))
    optimisation = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3), **wrapper)
    optimisation.message_hub = hub
    optimisation.initialize_count_status(model, 0, 100)
    runner = SimpleNamespace(
        model=model,
        optim_wrapper=optimisation,
        message_hub=hub,
        iter=0,
        max_iters=1000,
        work_dir=str(tmp_path / "train"),
        cfg=SimpleNamespace(val_interval=50),
    )
    hook = FiniteHook()
    hook.before_train(runner)
    return runner, hook


def iterate(runner, hook, loss=torch.sum, skip=False):
    """One iteration with a loss of the weight."""
    loss = loss(runner.model.weight)
    if skip:  # as GradScaler does
        runner.optim_wrapper.optimizer.step = lambda: None
    runner.optim_wrapper.update_params(loss)
    if skip:
        del runner.optim_wrapper.optimizer.step
    batch = {"data_samples": [SimpleNamespace(img_path="a.png"), SimpleNamespace(img_path="b.png")]}
    hook.after_train_iter(runner, 0, batch, {"loss": loss})
    runner.iter += 1


def test_the_first_loss_that_is_not_finite_ends_the_training(tmp_path):
    runner, hook = start(tmp_path)
    iterate(runner, hook)
    message = r"iteration 2: the loss is nan \(images of the batch: a.png, b.png\); there is no checkpoint yet. Lower"
    with pytest.raises(InputError, match=message):
        iterate(runner, hook, lambda weight: weight.sum() + math.nan)


def test_the_images_are_those_of_the_process_whose_loss_is_at_fault(tmp_path, monkeypatch):
    runner, hook = start(tmp_path)
    found = [(0.5, ["a.png"]), (math.inf, ["c.png", "d.png"])]
    monkeypatch.setattr(finite, "all_gather_object", lambda mine: found)
    monkeypatch.setattr(finite, "all_reduce", lambda total: total.add_(math.inf))
    with pytest.raises(InputError, match=r"the loss is inf \(images of the batch: c.png, d.png\)"):
        iterate(runner, hook)


@pytest.mark.parametrize("wrapper", [{}, dict(clip_grad=dict(max_norm=1.0)), dict(accumulative_counts=2)])
def test_a_gradient_that_is_not_finite_ends_the_training(wrapper, tmp_path):
    runner, hook = start(tmp_path, **wrapper)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "iter_7.pth").touch()
    for _ in range(2):
        iterate(runner, hook)
    with pytest.raises(InputError, match="the gradient's norm is not finite .* the last good checkpoint is iter_7.pth"):
        for _ in range(2):
            iterate(runner, hook, lambda weight: (weight - weight.detach()).sum().sqrt())  # 0, infinitely steep


def test_a_loss_scaler_may_skip_some_steps(tmp_path):
    runner, hook = start(tmp_path)
    runner.optim_wrapper.loss_scaler = Scaler()
    for _ in range(3):
        for _ in range(SKIPPED_STEPS - 1):
            iterate(runner, hook, skip=True)
        iterate(runner, hook)
    with pytest.raises(InputError, match=f"iteration {4 * SKIPPED_STEPS}: .* after {SKIPPED_STEPS} skipped"):
        for _ in range(SKIPPED_STEPS):
            iterate(runner, hook, skip=True)


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    runner, hook = start(tmp_path)
    sound, broken = {"a": torch.ones(2), "n": torch.ones(1, dtype=torch.long)}, {"b": torch.tensor([1.0, math.inf])}
    hook.before_save_checkpoint(runner, {"state_dict": sound, "optimizer": broken})
    for checkpoint in ({"state_dict": broken}, {"state_dict": sound, "ema_state_dict": broken}):
        with pytest.raises(InputError, match=r"weights in iteration 1 are not finite \(b\)"):
            hook.before_save_checkpoint(runner, checkpoint)


def test_broken_weights_are_found_before_an_older_checkpoint_makes_room(tmp_path):
    runner, hook = start(tmp_path)
    runner.iter = 49
    with torch.no_grad():
        runner.model.weight.fill_(math.inf)
    loss = torch.zeros((), requires_grad=True)
    with pytest.raises(InputError, match="weights in iteration 50 are not finite"):
        hook.after_train_iter(runner, 0, {}, {"loss": loss})


DIVERGING = {**SMALL, "val_interval": 2, "optim_wrapper.optimizer.lr": 1e28}
"""The warm-up's first rate is small: some iterations are sound."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [
        dict(options=DIVERGING),
        dict(options=DIVERGING, processes=2),
        dict(options={**DIVERGING, "shard": True}, processes=2),
        dict(options={**DIVERGING, "ema": 0.1, "accumulate": 2, "val_interval": 4}),
        dict(options=DIVERGING, self_training=True),
    ],
    ids=["alone", "two processes", "sharded", "average", "self-training"],
)
def test_a_training_that_diverges_ends_and_keeps_what_was_sound(given, augmented, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(augmented, out)
    with pytest.raises(InputError, match=r"^iteration \d+: the (loss|gradient).*png.*Lower the learning rate"):
        train(TrainOptions(out=out, max_iters=20, batch_size=2, amp=False, **given))
    assert Run(out).entry("train") is None
    for path in (out / "train").glob("*.pth"):
        weights = torch.load(path, weights_only=False)["state_dict"]
        assert all(tensor.isfinite().all() for tensor in weights.values())
