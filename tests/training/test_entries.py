"""Entries of a recipe by dotted names."""

import pytest

from lib import recipes
from lib.errors import InputError
from lib.training.entries import Sizes, override


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_iter": 3}, r"'max_iter' is no entry of a recipe \(did you mean max_iters\?"),
        ({"model.backbone.chanels": 3}, r"did you mean channels\? model.backbone: there are: act_layer"),
        ({"model": {"backbone": {"chanels": 3}}}, r"'model.backbone.chanels' is no entry"),
        ({"optim_wrapper.optimizer.amsgrd": True}, r"did you mean amsgrad\?"),
        ({"max_iters.a": 3}, "max_iters: it has no entries"),
        ({"model.backbone.with_cp": "off"}, r"with_cp: 'off' \(expected: true or false"),
        ({"optim_wrapper.optimizer.lr": "1e-4"}, r"lr: '1e-4' \(expected: a number; YAML reads"),
        ({"model.backbone.depths": [1, float("nan"), 1, 1]}, r"depths: nan \(expected: a finite number"),
        ({"model.backbone.depths.0": 2}, "model.backbone.depths: it has no entries"),
        ({"clip_grad.max_norm": 2}, "clip_grad"),
        ({"model.backbone": "large"}, r"model.backbone: 'large' \(expected: a mapping"),
        ({"crop_size": [96]}, r"crop_size: \[96\] \(expected: a list of 2 values"),
    ],
)
def test_names_and_values_that_no_recipe_has_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        override(recipes.load("demo"), given)


def test_entries_that_a_recipe_leaves_out_can_be_given():
    cfg = recipes.load("demo")
    given = {
        "model.backbone.with_cp": True,
        "model.decode_head.norm_cfg.eps": 1e-4,
        "optim_wrapper.clip_grad.max_norm": 1.0,
        "optim_wrapper.optimizer": {"type": "SGD", "lr": 1, "momentum": 0.9, "_delete_": True},
        "accumulate": 2,
    }
    override(cfg, given)
    assert cfg.model.backbone.with_cp and cfg.optim_wrapper.clip_grad.max_norm == 1 and cfg.accumulate == 2
    assert cfg.optim_wrapper.optimizer == {"type": "SGD", "lr": 1, "momentum": 0.9}
    assert given["optim_wrapper.optimizer"]["_delete_"], "the caller's options stay as they are"


@pytest.mark.parametrize("name", [*recipes.names(), "upernet_internimage_b", "segformer_internimage_h_ade20k"])
def test_recipes_fulfil_their_own_ranges(name):
    cfg = recipes.load(name)
    override(cfg, {})
    assert Sizes.collect(cfg).max_iters == cfg.max_iters
