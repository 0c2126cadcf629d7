import pytest
from mmengine.registry import init_default_scope

import lib.internimage  # noqa: F401 (registers the backbone)
from lib import recipes
from lib.classes import CLASSES, CLASSES_WITH_BACKGROUND
from lib.runs import InputError


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_builds_and_ends_on_time(name, tmp_path):
    import torch
    from mmseg.registry import MODELS

    cfg = recipes.resolve(name, tmp_path)
    init_default_scope("mmseg")
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    assert model.decode_head.num_classes == len(CLASSES_WITH_BACKGROUND)
    assert cfg.param_scheduler[-1]["end"] == cfg.train_cfg.max_iters == cfg.max_iters


def test_the_seed_recipe_is_the_published_one(tmp_path):
    cfg = recipes.resolve("upernet_internimage_b_512x1024_160k", tmp_path)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ("AdamW", 6e-5, 0.05)
    assert tuple(optimizer.betas) == (0.9, 0.999)
    assert cfg.max_iters == 160000 and cfg.warmup_iters == 1500 and cfg.batch_size == 2
    assert tuple(cfg.crop_size) == (512, 1024) and cfg.model.backbone.drop_path_rate == 0.4
    warm, poly = cfg.param_scheduler
    assert (warm["begin"], warm["end"]) == (0, 1500)
    assert (poly["begin"], poly["end"], poly["power"]) == (1500, 160000, 1.0)


def test_a_shorter_training_shrinks_its_schedule(tmp_path):
    cfg = recipes.resolve("demo", tmp_path, max_iters=30, batch_size=1, options={"optim_wrapper.optimizer.lr": 0.5})
    full = recipes.load("demo")
    assert cfg.param_scheduler[0]["end"] == round(full.warmup_iters * 30 / full.max_iters)
    assert cfg.val_interval == round(full.val_interval * 30 / full.max_iters)
    assert cfg.train_dataloader.batch_size == 1 and cfg.optim_wrapper.optimizer.lr == 0.5


def test_unknown_recipes_list_the_known_ones(tmp_path):
    with pytest.raises(InputError, match="'nosuch' is neither a file nor one of: demo, .*small, upernet_internimage_b"):
        recipes.load("nosuch")
    with pytest.raises(InputError, match="neither"):
        recipes.load(tmp_path / "gone.py")


def test_background_is_not_scored():
    import numpy as np
    import torch

    from lib.recipes.components import ScoredIoU

    metric = ScoredIoU()
    metric.dataset_meta = {"classes": CLASSES_WITH_BACKGROUND}
    label = torch.from_numpy(np.repeat(np.arange(len(CLASSES_WITH_BACKGROUND)), 4).reshape(1, -1))
    predicted = label.clone()
    predicted[label == len(CLASSES)] = 0  # Background taken for class 0
    areas = metric.intersect_and_union(predicted, label, len(CLASSES_WITH_BACKGROUND), 255)
    assert metric.compute_metrics([areas])["mIoU"] == pytest.approx(100 * (11 + 0.5) / 12, abs=0.01)
