"""Stage 02: train a recipe on the augmented set. A killed training resumes from its last checkpoint."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import matplotlib.pyplot as plt
from annotated_types import Ge

from lib import recipes
from lib.dataset import layout
from lib.dataset.classes import CLASSES_WITH_BACKGROUND
from lib.diagnostics import plots
from lib.files import digest, digest_of, whole_file
from lib.options import Options, option
from lib.run import Run, alone
from lib.training import self_training
from lib.training.config import build_config
from lib.training.hardware import Hardware
from lib.training.launcher import launch

SCALARS = ("loss", "source", "target", "confident", "mIoU", "lr")
"""Scalars of :func:`scalars` in their order; ``source``, ``target`` and ``confident`` come from self-training."""
Count = Annotated[int, Ge(1)]


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
    seed: Annotated[int, Ge(0)] = option(0, "seed of initialisation, sampling and augmentation")
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
        return {"augmented": Run(self.out).digest("augment"), "recipe": recipe, **files}


@alone
def train(options: TrainOptions) -> Path:
    """Train on the augmented set of the run folder; return the best checkpoint by validation mIoU.

    Raises:
        InputError: no augmented set, entries or weights that do not fit, or a folder of other options or inputs.
        RuntimeError: the training process failed; carries its last lines.
    """
    run, hardware = Run(options.out), Hardware.detect(options.processes)
    run.need("augment")
    # The options that the result depends on are the parameters of build_config.
    cfg = build_config(data=run.augmented, hardware=hardware, work_dir=run.train, **options.identity())
    layout.check(run.augmented, ("train_source", "val_source"), classes=len(CLASSES_WITH_BACKGROUND))
    run.claim("train", options, options.overwrite, options.restart)
    best = run.best_checkpoint()
    if best is None or not run.is_done("train", options):
        cfg.dump(run.config)
        with run.recorded("train", options) as results:
            results["processes"] = hardware.processes
            launch(run, hardware, cfg.max_iters, cfg.num_workers)
            best = run.best_checkpoint()
            if best is None:
                raise RuntimeError(f"the training ended without a checkpoint. Its whole output: {run.log}")
            results["checkpoint"] = best.name
            results["val_mIoU"] = max(scalars(run.folder).get("mIoU", ([], [float("nan")]))[1])
            figure = plots.curves(scalars(run.folder))
            with whole_file(run.curves) as temporary:
                figure.savefig(temporary, dpi=100)
            plt.close(figure)
    return best


def scalars(out: str | Path) -> dict[str, tuple[Sequence[float], Sequence[float]]]:
    """Return name to (iterations, values) of what a run's training logged, in the order of :data:`SCALARS`."""
    values: dict[str, dict[int, float]] = {name: {} for name in SCALARS}
    for path in sorted(Run(out).train.glob("*/vis_data/scalars.json")):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            for name in values.keys() & entry.keys():
                values[name][entry["step"]] = entry[name]
    return {name: (sorted(steps), [steps[step] for step in sorted(steps)]) for name, steps in values.items() if steps}
