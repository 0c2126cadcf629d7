"""Schedules of shortened recipes, simulated with mmengine's schedulers, without training."""

import importlib.util
import itertools

import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS

from lib import recipes
from lib.errors import InputError
from lib.recipes import compose, datasets
from lib.recipes.heads import HEADS
from lib.training.config import build_config
from lib.training.hardware import Hardware

LENGTHS = (1, 2, 6, 10, 14, 50, 100, 250)
DECAY = 0.25
COMPOSED = [str(compose.parts(*parts)) for parts in itertools.product(HEADS, compose.TRAINING, datasets.DATA)]
WITH_HEAD = [f"{name}_{head}" for name, head in itertools.product(recipes.names(), HEADS)]


def build(name, tmp_path, **given):
    if "mask2former" in name and not importlib.util.find_spec("mmdet"):
        pytest.skip("mmdetection is not installed (make mask2former)")
    return build_config(name, tmp_path, hardware=Hardware(), amp=False, **given)


def largest_rates(cfg) -> list[float]:
    """The largest rate of two groups of parameters, the second with a decayed rate."""
    rate = cfg.optim_wrapper.optimizer.lr
    groups = [dict(params=[torch.nn.Parameter(torch.zeros(1))], lr=rate * factor) for factor in (1, DECAY)]
    optimizer = torch.optim.SGD(groups)
    schedulers = [PARAM_SCHEDULERS.build(dict(e), default_args=dict(optimizer=optimizer)) for e in cfg.param_scheduler]
    rates = []
    for _ in range(cfg.max_iters):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return [max(column) for column in zip(*rates, strict=True)]


def reaches_its_rate(name, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "entry", lambda *arguments: dict(type="Nothing"))  # no data is needed
    full = recipes.load(name)
    for length in LENGTHS:
        cfg = build(name, tmp_path, max_iters=length)
        rate = full.optim_wrapper.optimizer.lr
        assert largest_rates(cfg) == pytest.approx([rate, rate * DECAY]), length


@pytest.mark.parametrize("name", [*recipes.names(), "upernet_internimage_b_512x1024_160k"])
def test_shortened_recipes_reach_their_learning_rate(name, tmp_path, monkeypatch):
    reaches_its_rate(name, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*WITH_HEAD, *COMPOSED])
def test_every_shortened_recipe_reaches_its_learning_rate(name, tmp_path, monkeypatch):
    reaches_its_rate(name, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", [*recipes.names(), "upernet_internimage_b_512x1024_160k"])
def test_full_recipes_keep_their_schedule(name, tmp_path):
    recipe, (warm, poly) = recipes.load(name), build(name, tmp_path).param_scheduler
    assert (warm["type"], warm["begin"], warm["end"], warm["start_factor"]) == (
        "LinearLR",
        0,
        recipe.warmup_iters,
        1e-6,
    )
    assert (poly["type"], poly["begin"], poly["end"]) == ("PolyLR", recipe.warmup_iters, recipe.max_iters)


def test_given_intervals_are_kept(tmp_path):
    given = dict(warmup_iters=7, val_interval=9)
    for chosen in (dict(max_iters=40, options=given), dict(options={**given, "max_iters": 40})):
        cfg = build("demo", tmp_path, **chosen)
        assert (cfg.max_iters, cfg.warmup_iters, cfg.val_interval) == (40, 7, 9)


def test_a_length_in_options_shortens_the_schedule_too(tmp_path):
    one, other = build("demo", tmp_path, max_iters=30), build("demo", tmp_path, options={"max_iters": 30})
    assert one.param_scheduler == other.param_scheduler and one.val_interval == other.val_interval == 15


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(max_iters=8, options={"val_interval": 9}), r"val_interval: 9 \(expected: 8 at most"),
        (dict(max_iters=8, options={"warmup_iters": 8}), r"warmup_iters: 8 \(expected: 7 at most"),
        (dict(max_iters=8, options={"accumulate": 5}), r"accumulate: 5 \(expected: 4 at most"),
        (dict(max_iters=8, options={"max_iters": 9}), "expected: one of them"),
    ],
)
def test_intervals_that_a_training_never_reaches_are_refused(given, message, tmp_path):
    with pytest.raises(InputError, match=message):
        build("demo", tmp_path, **given)
