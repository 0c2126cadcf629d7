"""Self-training: learn from the target camera's unlabelled frames as well.

A mean teacher labels target crops, and the student learns from these labels; by parameter on crops that it is not
allowed to see as the teacher did: mixed with labelled source crops, in other colours, with patches missing.
:func:`add` turns a resolved recipe into one that trains so: its network, whatever its head, stands inside a
:class:`lib.training.self_training.segmentor.SelfTraining`. Validation, checkpoints and inference go on with the plain network,
which is the teacher.
"""

from __future__ import annotations

from pathlib import Path

from lib.dataset import layout
from lib.errors import InputError

SETTINGS = dict(
    alpha=None,
    warmup=0.3,
    threshold=0.6,
    weight=1.0,
    align=True,
    mix=0.0,
    colour=0.0,
    mask_ratio=0.0,
    mask_block=16,
    rare=False,
    enlarge=1.5,
)
"""Defaults of ``self_training`` in a recipe.

``alpha``: the teacher keeps this share of itself in every iteration, less in the first ones; None: so much that it
looks back over a twenty-fifth of the training, 0.999 at most. ``warmup``: share of the training that learns from the
source alone. ``threshold``: probability from which a teacher's label counts as sure. ``weight``: of the target's
losses, times the share of sure pixels. ``align``: the teacher names every class as often as the source's labels do.
``mix``: share of the target's crops on which classes of a source crop are pasted. ``colour``: how much the student's
crops change their colours (0-1); above 0, half of them are blurred too. ``mask_ratio``, ``mask_block``: share of
further target crops that is hidden, and the side of a hidden patch in pixels; ratio 0: no such crops. ``rare``:
prefer source images of rare classes. ``enlarge``: the target's crops are enlarged by this, for streets that look
smaller in the target.
"""

_LONGEST = 0.999  # Hoyer et al., "DAFormer", CVPR 2022, for 40,000 iterations


def check(options: dict, self_training: bool) -> None:
    """Raise InputError where overrides by dotted name hold an unknown setting, or settings for what is off."""
    given = {name.partition(".")[2] for name in options if str(name).startswith("self_training.")}
    if given and not self_training:
        raise InputError(f"self_training.{min(given)} is set, but self_training is off (expected: self_training true)")
    _check_names(given)


def _check_names(given) -> None:
    if unknown := sorted(set(given) - set(SETTINGS)):
        raise InputError(f"self_training.{unknown[0]} is no setting (there are: {', '.join(SETTINGS)})")


def add(cfg, data: str | Path, seed: int) -> None:
    """Make a resolved recipe one of self-training, in place.

    Args:
        cfg: as from :func:`lib.recipes.resolve`; its ``self_training``, if any, replaces some of :data:`SETTINGS`.
        data: the augmented set that it was resolved for, with ``train_target.csv``.
        seed: of all that is random about crops and mixing.

    Raises:
        InputError: an unknown setting, or no target frames.
    """
    given = dict(cfg.get("self_training") or {})
    _check_names(given)
    settings = SETTINGS | given
    data = Path(data).resolve()
    layout.read_split(data, "train_target")
    enlarge = settings.pop("enlarge")
    larger = tuple(ratio * enlarge for ratio in cfg.ratio_range)
    loader = cfg.train_dataloader
    target = dict(
        type="CompetitionDataset",
        folder=str(data),
        split="train_target",
        metainfo=loader.dataset.metainfo,
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadOverlayLabel", folder=str(data)),
            dict(type="RandomResize", scale=cfg.scale, ratio_range=larger, keep_ratio=True),
            dict(type="RandomCrop", crop_size=cfg.crop_size),
            dict(type="RandomFlip", prob=0.5),
            dict(type="PackSegInputs"),
        ],
    )
    loader.dataset = dict(
        type="SourceAndTarget", source=loader.dataset, target=target, seed=seed, rare=settings.pop("rare")
    )
    loader.sampler = dict(type="PairSampler")
    loader.batch_size = 2 * cfg.batch_size
    settings["warmup"] = round(settings["warmup"] * cfg.max_iters)
    if settings["alpha"] is None:
        settings["alpha"] = min(_LONGEST, 1 - 1 / max(2.0, cfg.max_iters / 25))
    cfg.model = dict(type="SelfTraining", segmentor=cfg.model, seed=seed, **settings)
    optim = cfg.optim_wrapper
    own = {name: optim.pop(name) for name in ("constructor", "paramwise_cfg") if name in optim}
    optim.update(constructor="StudentOptimWrapperConstructor", paramwise_cfg=own)
    cfg.custom_imports.imports += ["lib.training.self_training.pairs", "lib.training.self_training.segmentor"]
    # The teacher is the running average of the weights; there is no need of a second one.
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook["type"] != "EMAHook"] + [dict(type="TeacherHook")]
