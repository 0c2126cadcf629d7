"""What is trained, and on what: recipes by name.

A recipe is a small mmengine config: the model, the optimiser and a handful of numbers (``scale``,
``crop_size``, ``batch_size``, ``max_iters`` …). It is a file in ``configs``, one of the user's, or composed from
its name (:mod:`lib.recipes.compose`). :func:`resolve` completes it into a config that mmengine's Runner takes as
it is; a run keeps that as ``train/config.py``.
"""

from __future__ import annotations

from pathlib import Path

from lib.errors import InputError
from lib.files import read_yaml
from lib.recipes import compose, datasets, heads, memory

_FOLDER = Path(__file__).parent / "configs"


def names() -> list[str]:
    """Names of the recipes that come as files."""
    return sorted(path.stem for path in _FOLDER.glob("*.py"))


def known() -> str:
    """What :func:`check` takes, in words."""
    files = ", ".join(names())
    return f"{files}, one of them and a head (demo_mask2former), or {compose.FORM}"


def check(recipe: str | Path) -> None:
    """Raise unless there is such a recipe and what it needs is installed; quick, nothing is imported.

    Args:
        recipe: a name from :func:`names`, one of those and a head, a composed name
            (:data:`lib.recipes.compose.FORM`), or the path of a recipe file.

    Raises:
        InputError: no such recipe (says what there is), or a head that is not installed.
    """
    file, head, parts = _look_up(recipe)
    if "mask2former" in (head, parts and parts.head):
        heads.require_mask2former()


def _look_up(recipe: str | Path) -> tuple[Path | None, str | None, compose.Parts | None]:
    """The recipe's file and the head it is given instead of its own, if any; or the parts it is composed of."""
    name = str(recipe)
    base, _, head = name.rpartition("_")
    if name in names():
        return _FOLDER / f"{name}.py", None, None
    if base in names() and head in heads.HEADS:
        return _FOLDER / f"{base}.py", head, None
    if parts := compose.parse(name):
        return None, None, parts
    path = Path(recipe)
    if path.suffix != ".py" or not path.is_file():
        raise InputError(f"recipe: {name!r} is neither a file nor one of: {known()}")
    return path, None, None


def load(recipe: str | Path):
    """The recipe as an ``mmengine.Config``; see :func:`check`."""
    from mmengine import Config

    check(recipe)
    file, head, parts = _look_up(recipe)
    if parts:
        return compose.compose(parts)
    cfg = Config.fromfile(file)
    return compose.replace_head(cfg, head) if head else cfg


def network(cfg):
    """The config of the network alone, which checkpoints hold and inference builds, in a resolved recipe."""
    return cfg.model.get("segmentor", cfg.model)  # self-training wraps it


def resolve(
    recipe: str | Path,
    data: str | Path,
    *,
    max_iters: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    options: dict | None = None,
):
    """The complete mmengine config that trains ``recipe`` on an augmented set.

    Args:
        recipe: see :func:`load`.
        data: folder with ``train_source.csv`` and ``val_source.csv`` of 13 classes; for a recipe made for
            Cityscapes or ADE20K, that data set's own folder.
        max_iters: length of the training; warm-up and validation interval shrink with it.
        batch_size: crops per process.
        seed: of initialisation, sampling and augmentation.
        options: further overrides of the recipe's entries by dotted name, e.g.
            ``{"optim_wrapper.optimizer.lr": 1e-4}``; see also :mod:`lib.recipes.memory`.

    Raises:
        InputError: see :func:`check`, or another kind of data set than the recipe is for.
    """
    cfg = load(recipe)
    for name, value in (("max_iters", max_iters), ("batch_size", batch_size)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise InputError(f"{name}: {value!r} (expected: a whole number from 1, or None for the recipe's)")
    if options:
        entries = {*cfg, *memory.ENTRIES, "self_training"}
        if unknown := sorted({str(name).partition(".")[0] for name in options} - entries):
            raise InputError(
                f"options: {unknown[0]!r} is no entry of a recipe (there are: {', '.join(sorted(entries))})"
            )
        cfg.merge_from_dict(options)
    for name in ("scale", "ratio_range", "crop_size"):
        cfg[name] = tuple(cfg[name])  # from YAML they come as lists
    share = (max_iters or cfg.max_iters) / cfg.max_iters
    cfg.max_iters, cfg.batch_size = max_iters or cfg.max_iters, batch_size or cfg.batch_size
    cfg.val_interval = max(1, round(cfg.val_interval * share))
    cfg.warmup_iters = round(cfg.warmup_iters * min(1.0, share))
    cfg.model.data_preprocessor.size = cfg.crop_size
    memory.add(cfg)
    _add_data(cfg, Path(data).resolve())
    _add_schedule(cfg)
    _add_runtime(cfg, seed)
    return cfg


def _add_data(cfg, data: Path) -> None:
    kind = cfg.get("data_kind", "competition")
    train = [
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations"),
        dict(type="RandomResize", scale=cfg.scale, ratio_range=cfg.ratio_range, keep_ratio=True),
        dict(type="RandomCrop", crop_size=cfg.crop_size, cat_max_ratio=0.75),
        dict(type="RandomFlip", prob=0.5),
        dict(type="PhotoMetricDistortion"),
        dict(type="PackSegInputs"),
    ]
    test = [
        dict(type="LoadImageFromFile"),
        dict(type="Resize", scale=cfg.scale, keep_ratio=True),
        dict(type="LoadAnnotations"),  # after Resize: scored at the label's own size
        dict(type="PackSegInputs"),
    ]

    sampler = dict(type="InfiniteSampler", shuffle=True)
    if read_yaml(data / "parameters.yaml").get("copies") == 0:
        crops = dict(scale=cfg.scale, ratio_range=cfg.ratio_range, crop_size=cfg.crop_size)
        train[:4] = [dict(type="BendToTarget", folder=str(data), **crops)]
        sampler = dict(type="WeightedInfiniteSampler")

    def loader(split: str, pipeline: list, batch_size: int, sampler: dict) -> dict:
        return dict(
            batch_size=batch_size,
            num_workers=cfg.num_workers,
            persistent_workers=cfg.num_workers > 0,
            sampler=sampler,
            dataset=dict(**datasets.entry(kind, data, split), pipeline=pipeline),
        )

    cfg.train_dataloader = loader("train_source", train, cfg.batch_size, sampler)
    cfg.val_dataloader = loader("val_source", test, 1, dict(type="DefaultSampler", shuffle=False))
    cfg.val_evaluator = dict(datasets.DATA[kind].metric)


def _add_schedule(cfg) -> None:
    warm, last = cfg.warmup_iters, cfg.max_iters
    cfg.param_scheduler = [
        dict(type="PolyLR", power=cfg.poly_power, eta_min=0.0, begin=warm, end=last, by_epoch=False),
    ]
    if warm:
        cfg.param_scheduler.insert(0, dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=warm))
    cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=last, val_interval=cfg.val_interval)
    cfg.val_cfg = dict(type="ValLoop")


def _add_runtime(cfg, seed: int) -> None:
    cfg.default_scope = "mmseg"
    imports = ["lib.internimage", "lib.training.registry", "lib.training.online"]
    if heads.MASK2FORMER in repr(cfg.model):
        imports.insert(0, "lib.recipes.mask2former")
    cfg.custom_imports = dict(imports=imports, allow_failed_imports=False)
    cfg.randomness = dict(seed=seed)
    cfg.log_level = "INFO"
    cfg.env_cfg = dict(cudnn_benchmark=True, mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0))
    cfg.log_processor = dict(by_epoch=False, window_size=20)
    cfg.vis_backends = [dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
    cfg.visualizer = dict(type="SegLocalVisualizer", vis_backends=cfg.vis_backends, name="visualizer")
    cfg.default_hooks = dict(
        timer=dict(type="IterTimerHook"),
        logger=dict(type="LoggerHook", interval=20, log_metric_by_epoch=False),
        param_scheduler=dict(type="ParamSchedulerHook"),
        sampler_seed=dict(type="DistSamplerSeedHook"),
        checkpoint=dict(
            type="CheckpointHook",
            by_epoch=False,
            interval=cfg.val_interval,
            max_keep_ckpts=cfg.get("keep_checkpoints", 2),
            save_best="mIoU",
            rule="greater",
            backend_args=dict(backend="whole_file"),
        ),
    )
    cfg.custom_hooks = [*cfg.get("custom_hooks", []), dict(type="ProgressHook"), dict(type="ValidateOnResumeHook")]
