"""Self-training: also learn from the target camera's unlabelled frames.

A mean teacher gives target crops pseudo-labels, from which the student learns. Any network can be trained in this way;
validation, checkpoints and inference use the plain network with the teacher's weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from annotated_types import Ge, Gt, Le

from lib.errors import InputError
from lib.options import Options, option

if TYPE_CHECKING:
    from mmengine import Config

PREFIX = "self_training."
Share = Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True, kw_only=True)
class Settings(Options):
    """Settings of self-training, the entry ``self_training`` of a recipe."""

    alpha: Share | None = option(
        None, "share of its weights that the teacher keeps per iteration; default: 1 - 25 / max_iters, at most 0.999"
    )
    warmup: Share = option(0.3, "share of the training that learns from the source alone")
    threshold: Share = option(0.6, "probability above which a pseudo-label counts as confident")
    weight: Annotated[float, Ge(0)] = option(1.0, "weight of the target's losses, times the confident share of pixels")
    align: bool = option(True, "give every class the same share of the pseudo-labels as of the source's labels")
    mix: Share = option(0.0, "share of target crops onto which classes of a source crop are pasted")
    colour: Share = option(0.0, "strength of the colour jitter of the student's crops; above 0, half are blurred too")
    mask_ratio: Share = option(0.0, "masked share of additional target crops; 0: no such crops")
    mask_block: Annotated[int, Ge(1)] = option(16, "side of a masked patch in pixels")
    rare: bool = option(False, "draw source images of rare classes more often")
    enlarge: Annotated[float, Gt(0)] = option(1.5, "enlargement of target crops, for streets that look smaller there")

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Self:
        """Build settings from a recipe's entry; raise InputError for an unknown setting or a value not allowed."""
        if unknown := sorted(given.keys() - set(cls.names())):
            raise InputError(f"{PREFIX}{unknown[0]} is no setting (there are: {', '.join(cls.names())})")
        try:
            return cls(**given)
        except InputError as error:
            raise InputError(f"{PREFIX}{error}") from None


def check(options: Mapping[str, Any], self_training: bool) -> None:
    """Raise InputError where overrides by dotted name hold faulty settings, or settings without self-training."""
    whole = options.get("self_training") or {}
    if not isinstance(whole, Mapping):
        raise InputError(f"options: self_training: {whole!r} (expected: a mapping of settings)")
    dotted = {str(k).removeprefix(PREFIX): value for k, value in options.items() if str(k).startswith(PREFIX)}
    given = {**whole, **dotted}
    if given and not self_training:
        raise InputError(f"{PREFIX}{min(given)} is set, but self_training is off (expected: self_training true)")
    Settings.read(given)


def entries(cfg: Config, data: Path, seed: int) -> dict[str, Any]:
    """Return the entries that turn a complete config into one of self-training.

    Raises:
        InputError: an unknown setting.
    """
    settings = Settings.read(cfg.get("self_training") or {})
    source = cfg.train_dataloader
    ratios = tuple(ratio * settings.enlarge for ratio in cfg.ratio_range)
    target = dict(
        type="CompetitionDataset",
        folder=str(data),
        split="train_target",
        metainfo=source.dataset.metainfo,
        pipeline=[
            dict(type="LoadTargetImage"),
            dict(type="LoadOverlayLabel", folder=str(data)),
            dict(type="RandomResize", scale=cfg.scale, ratio_range=ratios, keep_ratio=True),
            dict(type="RandomCrop", crop_size=cfg.crop_size),
            dict(type="RandomFlip", prob=0.5),
            dict(type="PackSegInputs"),
        ],
    )
    pairs = dict(type="SourceAndTarget", source=source.dataset, target=target, seed=seed, rare=settings.rare)
    sampling = dict(dataset=pairs, sampler=dict(type="PairSampler"), batch_size=2 * cfg.batch_size)
    # The teacher averages over a twenty-fifth of the training; 0.999 is DAFormer's, for 40,000 iterations.
    alpha = min(0.999, 1 - 1 / max(2.0, cfg.max_iters / 25))
    model = dict(
        type="SelfTraining",
        segmentor=cfg.model,
        seed=seed,
        alpha=alpha if settings.alpha is None else settings.alpha,
        warmup_iters=round(settings.warmup * cfg.max_iters),
        settings=settings.identity(),
    )
    optimisation = dict(cfg.optim_wrapper)
    student = {name: optimisation.pop(name) for name in ("constructor", "paramwise_cfg") if name in optimisation}
    optimisation |= dict(constructor="StudentOptimWrapperConstructor", paramwise_cfg=student)
    modules = ["lib.training.self_training.pairs", "lib.training.self_training.teacher"]
    return dict(
        train_dataloader=dict(source, **sampling),
        model=model,
        optim_wrapper=optimisation,
        custom_imports=dict(cfg.custom_imports, imports=[*cfg.custom_imports.imports, *modules]),
        custom_hooks=[*cfg.custom_hooks, dict(type="TeacherHook")],
    )
