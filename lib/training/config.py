"""The mmengine config that trains, built once from functions that each return the entries of one part."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib import recipes
from lib.errors import InputError
from lib.files import read_yaml
from lib.recipes import datasets, heads
from lib.recipes.config_file import check_plain
from lib.training import self_training as adaptation
from lib.training.entries import check_recipe, override
from lib.training.hardware import Hardware, device_entries

if TYPE_CHECKING:  # importing mmengine takes seconds
    from mmengine import Config


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
    ``max_iters``, unless ``options`` has them. Entries of ``options`` are the recipe's, those of
    :class:`lib.training.entries.Sizes` and those of ``self_training``.

    Args:
        data: augmented set; for a recipe made for Cityscapes or ADE20K, that data set's own folder.
        hardware: what it will run on; None: this machine.
        work_dir: folder for checkpoints and logs.

    Raises:
        InputError: unknown recipe, another kind of data set than the recipe is for, entries that are unknown, no plain
            values, out of range or do not go together, or weights that do not fit the network.
    """
    hardware, data = hardware or Hardware.detect(), Path(data).resolve()
    cfg = recipes.load(recipe)
    try:
        check_recipe(cfg)
    except InputError as error:
        raise InputError(f"recipe {recipe}: {error}") from None
    length = cfg.max_iters
    override(cfg, options or {})
    _check_memory(cfg, hardware, amp, self_training)
    _set(cfg, _sizes(cfg, options or {}, max_iters, batch_size, length))
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
    check_plain(cfg)
    return cfg


def _set(cfg: Config, entries: Mapping[str, Any]) -> None:
    for name, value in entries.items():  # Config.update would merge into nested entries
        cfg[name] = value


def _check_memory(cfg: Config, hardware: Hardware, amp: bool | str, self_training: bool) -> None:
    if cfg.ema and cfg.shard:
        raise InputError(f"ema: {cfg.ema} (expected: null with shard; no process could hold a second network)")
    if cfg.shard and (hardware.processes < 2 or amp == "fp16"):
        found = f"with processes={hardware.processes} and amp={amp!r}"
        raise InputError(f"shard: {found} (expected several processes, and no fp16)")
    if cfg.shard and self_training:
        raise InputError("shard: with self_training (expected one of the two; the teacher needs its whole student)")


def _sizes(cfg: Config, options: Mapping, max_iters: int | None, batch_size: int | None, length: int) -> dict:
    """Return the recipe's sizes for a training of ``max_iters``; ``length``: the recipe's own."""
    for name, value in (("max_iters", max_iters), ("batch_size", batch_size)):
        if value and options.get(name, value) != value:
            raise InputError(
                f"options: {name}: {options[name]}, and the option {name}: {value} (expected: one of them)"
            )
    last = max_iters or cfg.max_iters
    share, warm, interval = last / length, cfg.warmup_iters, cfg.val_interval
    if "warmup_iters" not in options and share < 1:
        warm = min(last - 1, round(warm * share))
    if "val_interval" not in options:
        interval = min(last, max(1, round(interval * share)))
    for name, value, most in (
        ("warmup_iters", warm, last - 1),
        ("val_interval", interval, last),
        ("accumulate", cfg.accumulate, max(1, last // 2)),  # the last iteration's learning rate is 0
    ):
        if value > most:
            raise InputError(f"{name}: {value} (expected: {most} at most, in a training of {last} iterations)")
    return dict(
        max_iters=last,
        batch_size=batch_size or cfg.batch_size,
        warmup_iters=warm,
        # A checkpoint within a step would lose the gradients accumulated so far.
        val_interval=-(-interval // cfg.accumulate) * cfg.accumulate,
        **{name: tuple(cfg[name]) for name in ("scale", "ratio_range", "crop_size")},  # lists, where YAML wrote them
    )


def _data(cfg: Config, data: Path) -> dict:
    kind = cfg.data_kind
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
            collate_fn=dict(type="collate_for_transfer"),
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
        # A warm-up of one iteration would hold its start factor alone, and the descent would begin from there.
        param_scheduler=[warmup, descent] if warm > 1 else [descent],
        train_cfg=dict(type="IterBasedTrainLoop", max_iters=last, val_interval=cfg.val_interval),
        val_cfg=dict(type="ValLoop"),
    )


def _runtime(cfg: Config, seed: int) -> dict:
    modules = ("data", "transfer", "metric", "hooks", "finite", "runner")
    imports = ["lib.internimage", *(f"lib.training.{module}" for module in modules)]
    if heads.MASK2FORMER in repr(cfg.model):
        imports.insert(0, "lib.recipes.mask2former")
    backends = [dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
    logger = dict(type="LoggerHook", interval=20, log_metric_by_epoch=False)
    checkpoint = dict(
        type="CheckpointHook",
        by_epoch=False,
        interval=cfg.val_interval,
        max_keep_ckpts=cfg.keep_checkpoints,
        save_best="mIoU",
        rule="greater",
        backend_args=dict(backend="whole_file"),
    )
    hooks = ("ResumeHook", "ProgressHook", "ValidateOnResumeHook", "FiniteHook")
    return dict(
        runner_type="TrainingRunner",
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
    from lib.internimage.checkpoints import loading, releases
    from lib.training import checks

    source, options = loading.parse_load_from(load_from)
    kinds: dict = {"ema": bool, "partial": bool, "classes": str | list | tuple | None}
    for name, value in options.items():
        if not isinstance(value, kinds[name]):
            expected = "true or false" if kinds[name] is bool else "a data set's name, or a list of class names"
            raise InputError(f"load_from: {name}: {value!r} (expected: {expected})")
    source = str(releases.fetch(source).resolve())
    print(loading.check_weights(checks.build_network(cfg), source, allow_backbone=True, **options))
    return dict(type="StartWeightsHook", source=source, **options)
