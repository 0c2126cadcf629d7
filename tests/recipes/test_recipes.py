import importlib.util
import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope

import lib.internimage  # noqa: F401  registers its classes
from lib import recipes
from lib.dataset.classes import CLASSES_WITH_BACKGROUND
from lib.errors import InputError
from lib.internimage.variants import VARIANTS
from lib.recipes import compose, datasets
from lib.recipes.heads import HEADS
from lib.training.config import build_config
from lib.training.hardware import Hardware

GPU = Hardware(gpus=1)
GOLDEN = Path(__file__).parents[1] / "golden"
TOTALS = {
    ("upernet", "t", "ade20k"): 59,
    ("upernet", "s", "ade20k"): 80,
    ("upernet", "b", "ade20k"): 128,
    ("upernet", "l", "ade20k"): 256,
    ("upernet", "xl", "ade20k"): 368,
    ("upernet", "h", "ade20k"): 1120,
    ("mask2former", "h", "ade20k"): 1310,
    ("mask2former", "h", "cityscapes"): 1094,
    ("segformer", "l", "cityscapes"): 220,
    ("segformer", "xl", "cityscapes"): 330,
}
"""Millions of parameters in the public tables, auxiliary heads and all."""
ROUNDED = {1120: 10, 1310: 10}
"""Those given in thousand millions, to their last digit."""


def build(recipe):
    """The recipe's network, without memory."""
    from mmseg.registry import MODELS

    if recipe.model.decode_head.type == "Mask2FormerLogitsHead":
        import lib.recipes.mask2former  # noqa: F401
    init_default_scope("mmseg")
    with torch.device("meta"):
        return MODELS.build(recipe.model)


def needs(head: str) -> None:
    if head == "mask2former" and not importlib.util.find_spec("mmdet"):
        pytest.skip("mmdetection is not installed (make mask2former)")


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_builds_and_ends_on_time(name, tmp_path):
    cfg = build_config(name, tmp_path)
    assert build(cfg).decode_head.num_classes == len(CLASSES_WITH_BACKGROUND)
    assert cfg.param_scheduler[-1]["end"] == cfg.train_cfg.max_iters == cfg.max_iters


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("head", HEADS)
def test_every_combination_builds_with_its_published_size(head, variant):
    needs(head)
    for data, kind in datasets.DATA.items():
        parts = compose.parts(head, variant, data)
        recipe = recipes.load(str(parts))
        network = build(recipe)
        assert network.decode_head.num_classes == kind.classes
        assert recipe.optim_wrapper.paramwise_cfg.num_layers == sum(VARIANTS[variant]["depths"])
        if total := TOTALS.get((head, variant, data)):
            millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
            assert abs(millions - total) <= ROUNDED.get(total, 1) / 2


def test_there_is_a_recipe_for_every_combination():
    everything = [compose.parts(*chosen) for chosen in itertools.product(HEADS, VARIANTS, datasets.DATA)]
    everything = {str(parts): parts for parts in everything}
    assert len(everything) == 7 * 3 * 3 and set(compose.TRAINING) == set(VARIANTS)
    assert all(compose.parse(name) == parts for name, parts in everything.items())
    assert "upernet_internimage_b_512x1024_160k" in everything
    assert compose.parse("upernet_internimage_b") == compose.parse("upernet_internimage_b_competition_512x1024_160k")


# Crop, rate, layer decay, gradient norm, thousand iterations: what the public configs say.
PUBLISHED = {
    "upernet_internimage_t_ade20k": ((512, 512), 6e-5, 1.0, None, 160),
    "upernet_internimage_l_ade20k": ((640, 640), 2e-5, 0.94, 0.1, 160),
    "upernet_internimage_g_ade20k": ((896, 896), 2e-5, 0.95, 0.1, 160),
    "upernet_internimage_s_cityscapes": ((512, 1024), 6e-5, 1.0, None, 160),
    "segformer_internimage_xl_cityscapes": ((512, 1024), 2e-5, 0.94, 0.1, 160),
    "mask2former_internimage_h_ade20k": ((896, 896), 1e-5, 0.95, 0.1, 80),
    "mask2former_internimage_h_cityscapes": ((1024, 1024), 1e-5, 0.95, 0.1, 80),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_combinations_train_as_published(name):
    needs(name.split("_")[0])
    recipe = recipes.load(name)
    optimisation = recipe.optim_wrapper
    clip = optimisation.get("clip_grad", {}).get("max_norm")
    found = (tuple(recipe.crop_size), optimisation.optimizer.lr, optimisation.paramwise_cfg.layer_decay_rate, clip)
    assert (*found, recipe.max_iters // 1000) == PUBLISHED[name]
    assert recipe.model.backbone.drop_path_rate == VARIANTS[name.split("_")[2]]["drop_path_rate"]


def test_a_name_may_choose_crop_and_length():
    recipe = recipes.load("segformer_internimage_s_cityscapes_256x512_2k")
    assert recipe.crop_size == recipe.model.test_cfg.crop_size == (256, 512)
    assert (recipe.max_iters, recipe.warmup_iters, recipe.val_interval) == (2000, 200, 100)


@pytest.mark.parametrize("name", ["demo", "upernet_internimage_b_512x1024_160k"])
def test_known_recipes_stay_what_they_were(name, tmp_path):
    expected = json.loads((GOLDEN / "recipes.json").read_text())[name]
    resolved = json.loads(json.dumps(build_config(name, tmp_path, hardware=GPU, amp=False).to_dict()))
    assert {key: resolved[key] for key in expected} == expected


def test_the_seed_recipe_is_the_published_one(tmp_path):
    cfg = build_config("upernet_internimage_b_512x1024_160k", tmp_path)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ("AdamW", 6e-5, 0.05)
    assert tuple(optimizer.betas) == (0.9, 0.999)
    assert cfg.max_iters == 160000 and cfg.warmup_iters == 1500 and cfg.batch_size == 2
    assert tuple(cfg.crop_size) == (512, 1024) and cfg.model.backbone.drop_path_rate == 0.4
    warm, poly = cfg.param_scheduler
    assert (warm["begin"], warm["end"]) == (0, 1500)
    assert (poly["begin"], poly["end"], poly["power"]) == (1500, 160000, 1.0)


def test_a_shorter_training_shrinks_its_schedule(tmp_path):
    cfg = build_config("demo", tmp_path, max_iters=30, batch_size=1, options={"optim_wrapper.optimizer.lr": 0.5})
    full = recipes.load("demo")
    assert cfg.param_scheduler[0]["end"] == round(full.warmup_iters * 30 / full.max_iters)
    assert cfg.val_interval == round(full.val_interval * 30 / full.max_iters)
    assert cfg.train_dataloader.batch_size == 1 and cfg.optim_wrapper.optimizer.lr == 0.5


def test_a_recipe_file_is_taken_by_its_path(tmp_path):
    own = tmp_path / "own.py"
    own.write_text(recipes.load("demo_segformer").pretty_text)
    assert recipes.load(own).model.decode_head.type == "SegformerHead"


def test_unknown_recipes_list_the_known_ones(tmp_path):
    with pytest.raises(InputError, match="'nosuch' is neither a file nor one of: demo, .*small.*upernet, segformer"):
        recipes.load("nosuch")
    with pytest.raises(InputError, match="neither"):
        recipes.load(tmp_path / "gone.py")
    for name in ("upernet_internimage_q", "upernet_internimage_b_0x512", "upernet_internimage_b_0k", "demo_detr"):
        with pytest.raises(InputError, match="neither"):
            recipes.check(name)


def test_a_head_that_is_not_installed_is_said(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mmdet" else find(name))
    for name in ("demo_mask2former", "mask2former_internimage_h"):
        with pytest.raises(InputError, match="mmdet.* cannot be imported; run `make mask2former`"):
            recipes.check(name)
    recipes.check("demo_segformer")


def picture(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), values)


LAYOUTS = {
    "cityscapes": ("leftImg8bit/{}/a/1_leftImg8bit.png", "gtFine/{}/a/1_gtFine_labelTrainIds.png", ("train", "val")),
    "ade20k": ("images/{}/1.jpg", "annotations/{}/1.png", ("training", "validation")),
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_published_data_sets_are_read(kind, tmp_path):
    from mmseg.registry import DATASETS

    import lib.training.data  # noqa: F401

    name = f"segformer_internimage_t_{kind}_64x64_1k"
    with pytest.raises(InputError, match=f"no such folder .* those of {kind}"):
        build_config(name, tmp_path)
    image, label, splits = LAYOUTS[kind]
    classes = np.repeat(np.arange(4, dtype=np.uint8), 64 * 16).reshape(64, 64)
    for split in splits:
        picture(tmp_path / image.format(split), np.full((64, 64, 3), 99, np.uint8))
        picture(tmp_path / label.format(split), classes)
    cfg = build_config(name, tmp_path)
    init_default_scope("mmseg")
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        (sample,) = DATASETS.build(loader.dataset)
        found = set(sample["data_samples"].gt_sem_seg.data.unique().tolist())
        assert found - {255} <= ({0, 1, 2, 3} if kind == "cityscapes" else {0, 1, 2})
    assert cfg.val_evaluator.scored == datasets.DATA[kind].classes


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"options": {"acumulate": 4}}, "options: 'acumulate' is no entry of a recipe"),
    ],
)
def test_what_no_training_can_do_is_refused(given, message, tmp_path):
    with pytest.raises(InputError, match=message):
        build_config("demo", tmp_path, **given)
