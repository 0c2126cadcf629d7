"""The mmengine config that trains, built once from functions that each return the entries of one part."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib import recipes
from lib.errors import InputError
from lib.files import read_yaml
from lib.recipes import datasets, heads
from lib.training import self_training as adaptation
from lib.training.hardware import Hardware, device_entries

if TYPE_CHECKING:  # importing mmengine takes seconds
    from mmengine import Config

MEMORY = {"accumulate": 1, "clip_grad": None, "ema": None, "shard": False}
"""Entries that a recipe may have, with their defaults, to fit a training into a card's memory.

- ``accumulate``: iterations per step of the optimiser; ``max_iters`` counts iterations.
- ``clip_grad``: largest norm of the gradient.
- ``ema``: share of each step's weights in their exponential moving average, such as 2e-4; validation, checkpoints and
  inference then use the average.
- ``shard``: FSDP: spread weights, gradients and the optimiser's state over the processes.
"""


def build_config(
    recipe: str | Path,
    data: str | Path,
    *,
    max_iters: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    self_training: bool = False,
    amp: bool | str = True,
    load_from: str | Mapping | None = None,
    hardware: Hardware | None = None,
    work_dir: str | Path | None = None,
) -> Config:
    """Return the complete config that trains a recipe on an augmented set.

    See :class:`lib.stages.train.TrainOptions` for the options. Warm-up and validation interval scale with
    ``max_iters``; entries of ``options`` are the recipe's, :data:`MEMORY`'s and those of ``self_training``.

    Args:
        data: augmented set; for a recipe made for Cityscapes or ADE20K, that data set's own folder.
        hardware: what it will run on; None: this machine.
        work_dir: folder for checkpoints and logs.

    Raises:
        InputError: unknown recipe, another kind of data set than the recipe is for, entries that are unknown, out of
            range or do not go together, or weights that do not fit the network.
    """
    hardware, data = hardware or Hardware.detect(), Path(data).resolve()
    cfg = recipes.load(recipe)
    _override(cfg, options or {})
    _check_memory(cfg, hardware, amp, self_training)
    _set(cfg, _sizes(cfg, max_iters, batch_size))
    cfg.model.data_preprocessor.size = cfg.crop_size
    _set(cfg, _data(cfg, data))
    _set(cfg, _schedule(cfg))
    _set(cfg, _runtime(cfg, seed))
    if work_dir:
        cfg.work_dir = str(Path(work_dir).resolve())
    if load_from:
        cfg.custom_hooks.insert(0, _start_weights(cfg, load_from))
    if self_training:
        _set(cfg, adaptation.entries(cfg, data, seed))
    elif cfg.ema:
        average = dict(ema_type="ExponentialMovingAverage", momentum=cfg.ema, interval=cfg.accumulate)
        # Averaged weights with the last step's batch statistics would not belong together.
        cfg.custom_hooks.append(dict(type="EMAHook", **average, update_buffers=True))
    _set(cfg, device_entries(cfg, hardware, amp))
    return cfg


def _set(cfg: Config, entries: Mapping[str, Any]) -> None:
    for name, value in entries.items():  # Config.update would merge into nested entries
        cfg[name] = value


def _override(cfg: Config, options: Mapping[str, Any]) -> None:
    for name, default in MEMORY.items():
        cfg.setdefault(name, default)
    entries = {*cfg, "self_training"}
    if unknown := sorted({str(name).partition(".")[0] for name in options} - entries):
        raise InputError(f"options: {unknown[0]!r} is no entry of a recipe (there are: {', '.join(sorted(entries))})")
    cfg.merge_from_dict(dict(options))


def _check_memory(cfg: Config, hardware: Hardware, amp: bool | str, self_training: bool) -> None:
    for name, allowed, expected in (
        ("accumulate", isinstance(cfg.accumulate, int) and cfg.accumulate >= 1, "a whole number from 1"),
        ("clip_grad", cfg.clip_grad is None or cfg.clip_grad > 0, "a positive number, or None"),
        ("ema", cfg.ema is None or 0 < cfg.ema < 1, "a number between 0 and 1, or None"),
        ("ema", cfg.ema is None or not cfg.shard, "None with shard: no process could hold a second network"),
    ):
        if not allowed:
            raise InputError(f"{name}: {cfg[name]!r} (expected {expected})")
    if cfg.shard and (hardware.processes < 2 or amp == "fp16"):
        found = f"with processes={hardware.processes} and amp={amp!r}"
        raise InputError(f"shard: {found} (expected several processes, and no fp16)")
    if cfg.shard and self_training:
        raise InputError("shard: with self_training (expected one of the two; the teacher needs its whole student)")


def _sizes(cfg: Config, max_iters: int | None, batch_size: int | None) -> dict:
    share = (max_iters or cfg.max_iters) / cfg.max_iters
    interval = max(1, round(cfg.val_interval * share))
    return dict(
        max_iters=max_iters or cfg.max_iters,
        batch_size=batch_size or cfg.batch_size,
        warmup_iters=round(cfg.warmup_iters * min(1.0, share)),
        # A checkpoint within a step would lose the gradients accumulated so far.
        val_interval=-(-interval // cfg.accumulate) * cfg.accumulate,
        **{name: tuple(cfg[name]) for name in ("scale", "ratio_range", "crop_size")},  # lists, where YAML wrote them
    )


def _data(cfg: Config, data: Path) -> dict:
    kind = cfg.get("data_kind", "competition")
    if read_yaml(data / "parameters.yaml").get("copies") == 0:
        sizes = dict(scale=cfg.scale, ratio_range=cfg.ratio_range, crop_size=cfg.crop_size)
        crop = [dict(type="TransformToTarget", folder=str(data), **sizes)]
        sampler: dict = dict(type="WeightedInfiniteSampler")
    else:
        crop = [
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations"),
            dict(type="RandomResize", scale=cfg.scale, ratio_range=cfg.ratio_range, keep_ratio=True),
            dict(type="RandomCrop", crop_size=cfg.crop_size, cat_max_ratio=0.75),
        ]
        sampler = dict(type="SeededInfiniteSampler", shuffle=True)
    augment: list[dict] = [dict(type="RandomFlip", prob=0.5)]
    augment += [dict(type="PhotoMetricDistortion"), dict(type="PackSegInputs")]
    test = [
        dict(type="LoadImageFromFile"),
        dict(type="Resize", scale=cfg.scale, keep_ratio=True),
        dict(type="LoadAnnotations"),  # after Resize: scored at the label's own size
        dict(type="PackSegInputs"),
    ]

    def loader(split: str, pipeline: list, batch_size: int, sampler: dict) -> dict:
        return dict(
            batch_size=batch_size,
            num_workers=cfg.num_workers,
            persistent_workers=cfg.num_workers > 0,
            sampler=sampler,
            dataset=dict(**datasets.entry(kind, data, split), pipeline=pipeline),
        )

    return dict(
        train_dataloader=loader("train_source", crop + augment, cfg.batch_size, sampler),
        val_dataloader=loader("val_source", test, 1, dict(type="DefaultSampler", shuffle=False)),
        val_evaluator=dict(type="ScoredIoU", scored=datasets.DATA[kind].scored),
    )


def _schedule(cfg: Config) -> dict:
    warm, last = cfg.warmup_iters, cfg.max_iters
    warmup = dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=warm)
    descent = dict(type="PolyLR", power=cfg.poly_power, eta_min=0.0, begin=warm, end=last, by_epoch=False)
    optimisation = dict(cfg.optim_wrapper)
    if cfg.accumulate > 1:
        optimisation["accumulative_counts"] = cfg.accumulate
    if cfg.clip_grad is not None:
        optimisation["clip_grad"] = dict(max_norm=cfg.clip_grad)
    return dict(
        optim_wrapper=optimisation,
        param_scheduler=[warmup, descent] if warm else [descent],
        train_cfg=dict(type="IterBasedTrainLoop", max_iters=last, val_interval=cfg.val_interval),
        val_cfg=dict(type="ValLoop"),
    )


def _runtime(cfg: Config, seed: int) -> dict:
    imports = ["lib.internimage", "lib.training.data", "lib.training.metric", "lib.training.hooks"]
    if heads.MASK2FORMER in repr(cfg.model):
        imports.insert(0, "lib.recipes.mask2former")
    backends = [dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
    logger = dict(type="LoggerHook", interval=20, log_metric_by_epoch=False)
    checkpoint = dict(
        type="CheckpointHook",
        by_epoch=False,
        interval=cfg.val_interval,
        max_keep_ckpts=cfg.get("keep_checkpoints", 2),
        save_best="mIoU",
        rule="greater",
        backend_args=dict(backend="whole_file"),
    )
    hooks = ("ResumeHook", "ProgressHook", "ValidateOnResumeHook")
    return dict(
        default_scope="mmseg",
        custom_imports=dict(imports=imports, allow_failed_imports=False),
        randomness=dict(seed=seed),
        log_processor=dict(by_epoch=False, window_size=20),
        visualizer=dict(type="SegLocalVisualizer", vis_backends=backends, name="visualizer"),
        default_hooks=dict(logger=logger, checkpoint=checkpoint),
        custom_hooks=[*cfg.get("custom_hooks", []), *(dict(type=name) for name in hooks)],
    )


def _start_weights(cfg: Config, load_from: str | Mapping) -> dict:
    """Download the weights, check that they fit the recipe's network, and return the hook that loads them."""
    import torch
    from mmengine.registry import init_default_scope
    from mmengine.utils import import_modules_from_strings
    from mmseg.registry import MODELS

    from lib.internimage.checkpoints import loading, releases

    source, options = loading.parse_load_from(load_from)
    source = str(releases.fetch(source).resolve())
    import_modules_from_strings(**cfg.custom_imports)
    init_default_scope(cfg.default_scope)
    with torch.device("meta"):
        network = MODELS.build(deepcopy(cfg.model))
    print(loading.check_weights(network, source, allow_backbone=True, **options))
    return dict(type="StartWeightsHook", source=source, **options)
