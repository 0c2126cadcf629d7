"""Stage 02: train a recipe on the augmented set. A killed training resumes from its last checkpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import matplotlib.pyplot as plt
from annotated_types import Ge, Le

from lib import recipes
from lib.dataset import layout
from lib.dataset.checked import check_once
from lib.dataset.classes import CLASSES_WITH_BACKGROUND
from lib.diagnostics import plots
from lib.files import digest, digest_of, whole_file
from lib.options import Options, Seed, option
from lib.recipes.config_file import write_config
from lib.run import Run, alone
from lib.synthesis.target_camera import files_in
from lib.training import self_training
from lib.training.config import build_config
from lib.training.hardware import Hardware
from lib.training.launcher import launch

if TYPE_CHECKING:  # importing mmengine takes seconds
    from mmengine import Config

SCALARS = ("loss", "source", "target", "confident", "mIoU", "lr")
"""Scalars of :func:`scalars` in their order; ``source``, ``target`` and ``confident`` come from self-training."""
Count = Annotated[int, Ge(1), Le(10**9)]


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Options):
    """Options of stage 02."""

    out: str = option("../outputs/demo", "run folder, with the augmented set of 01_augment", identity=False)
    recipe: str = option(
        "demo", "demo, small, internimage_t, a composed name (see `fisheye zoo`), or path of a recipe file"
    )
    processes: Count | None = option(
        None, "training processes; default: one per GPU, or one without a GPU", identity=False
    )
    max_iters: Count | None = option(None, "length of the training in iterations; default: the recipe's")
    batch_size: Count | None = option(None, "crops per process; default: the recipe's")
    load_from: str | dict | None = option(
        None, 'weights to start from: file, URL, release name, or {"checkpoint": ..., "classes": "ade20k"}'
    )
    self_training: bool = option(False, "also learn from the target's unlabelled frames")
    seed: Seed = option(0, "seed of initialisation, sampling and augmentation")
    amp: bool | Literal["bf16", "fp16"] = option(
        True, "mixed precision on GPUs: bf16, fp16, true (bf16 if the GPU supports it, else fp16) or false"
    )
    options: dict | None = option(
        None, 'changes of entries of the recipe, such as {"optim_wrapper.optimizer.lr": 1e-4}'
    )
    overwrite: bool = option(
        False, "replace results of other options or inputs; the same ones are continued", identity=False
    )
    restart: bool = option(False, "begin anew, whatever results there are", identity=False)

    def __post_init__(self):
        super().__post_init__()
        recipes.check(self.recipe)
        self_training.check(self.options or {}, self.self_training)

    def inputs(self) -> dict[str, str]:
        """Return the digests of what the training is made from: augmented set, recipe and weights."""
        weights = self.load_from.get("checkpoint") if isinstance(self.load_from, dict) else self.load_from
        files = {"load_from": digest(weights)} if weights and Path(weights).is_file() else {}
        recipe = digest_of(recipes.load(self.recipe).to_dict())
        return {"augmented": Run(self.out).digest("augment"), "recipe": recipe, **files} | self._augmented()

    def is_whole(self) -> bool:
        """Return whether the best checkpoint is there, as it was when the training ended."""
        run = Run(self.out)
        results = (run.entry("train") or {}).get("results", {})
        if not (best := results.get("checkpoint")):
            return True
        found = run.digests([run.train / best], run.folder)
        return bool(found) and results.get("digest") in (None, *found.values())

    def _augmented(self) -> dict[str, str]:
        """Return the digests of the augmented set's files that the training reads; of none before 01_augment ran."""
        run, splits = Run(self.out), ("train_source", "val_source", *(["train_target"] if self.self_training else []))
        if run.entry("augment") is None:
            return {}
        tables = [run.augmented / f"{split}.csv" for split in splits]
        items = [item for split in splits for item in layout.read_split(run.augmented, split)]
        files = [file for item in items for file in (item.image, item.label) if file]
        return run.digests([*tables, *files, *files_in(run.augmented)], run.augmented)


@alone
def train(options: TrainOptions) -> Path:
    """Train on the augmented set of the run folder; return the best checkpoint by validation mIoU.

    Raises:
        InputError: no augmented set, entries or weights that do not fit, or a folder of other options or inputs.
        RuntimeError: the training process failed; carries its last lines.
    """
    run, hardware = Run(options.out), Hardware.detect(options.processes)
    run.need("augment")
    cfg = complete_config(options, run.augmented, hardware)
    check_once(run.augmented, ("train_source", "val_source"), run.checks, classes=len(CLASSES_WITH_BACKGROUND))
    if options.restart or not run.is_done("train", options):
        with recipes.quiet():
            from lib.training.checks import check_config, check_data  # here, because mmseg takes seconds to import

            check_config(cfg)
            check_data(cfg)
    run.claim("train", options, options.overwrite, options.restart)
    best = run.best_checkpoint()
    if best is None or not run.is_done("train", options):
        write_config(cfg, run.config)
        with run.recorded("train", options) as results:
            results["processes"] = hardware.processes
            launch(run, hardware, cfg.max_iters, cfg.num_workers)
            best = run.best_checkpoint()
            if best is None:
                raise RuntimeError(f"the training ended without a checkpoint. Its whole output: {run.log}")
            results["checkpoint"] = best.name
            results["digest"] = digest(best)
            results["val_mIoU"] = max(scalars(run.folder).get("mIoU", ([], [float("nan")]))[1])
            figure = plots.curves(scalars(run.folder))
            with whole_file(run.curves) as temporary:
                figure.savefig(temporary, dpi=100)
            plt.close(figure)
    elif not run.config.is_file():  # a training of an earlier version
        write_config(cfg, run.config)
    return best


def complete_config(options: TrainOptions, data: str | Path, hardware: Hardware) -> Config:
    """Return the config that trains on the augmented set ``data``; raises InputError as :func:`build_config` does."""
    # The options that the result depends on are the parameters of build_config.
    return build_config(data=data, hardware=hardware, work_dir=Run(options.out).train, **options.identity())


def scalars(out: str | Path) -> dict[str, tuple[Sequence[float], Sequence[float]]]:
    """Return name to (iterations, values) of what a run's training logged, in the order of :data:`SCALARS`."""
    values: dict[str, dict[int, float]] = {name: {} for name in SCALARS}
    for path in sorted(Run(out).train.glob("*/vis_data/scalars.json")):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            for name in values.keys() & entry.keys():
                values[name][entry["step"]] = entry[name]
    return {name: (sorted(steps), [steps[step] for step in sorted(steps)]) for name, steps in values.items() if steps}
