"""Train a recipe on an augmented set (stage 02).

The work is done by :mod:`lib.training.process`. A killed training goes on from its last checkpoint.
"""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

from lib import recipes
from lib.dataset import layout
from lib.dataset.classes import CLASSES_WITH_BACKGROUND
from lib.errors import InputError
from lib.files import read_yaml
from lib.run import claim, finished, recorded
from lib.training.process import PRECISIONS, gpus, run, step
from lib.training.self_training import add as add_self_training
from lib.training.self_training import check as check_self_training


def train(
    out: str | Path,
    *,
    recipe: str = "demo",
    processes: int | None = None,
    max_iters: int | None = None,
    batch_size: int | None = None,
    load_from: str | Path | dict | None = None,
    self_training: bool = False,
    seed: int = 0,
    amp: bool | str = True,
    options: dict | None = None,
    overwrite: bool = False,
) -> Path:
    """Stage 02: train on ``out/augmented`` into ``out/train``.

    Args:
        out: run folder.
        recipe: name of a recipe, or path of a recipe file.
        processes: training processes; None: one per GPU, or one where there is none.
        max_iters: length of the training instead of the recipe's.
        batch_size: crops per process instead of the recipe's.
        load_from: checkpoint to start from, of the whole network or of its backbone: a file, a URL or the name of a
            public release, or a mapping of ``checkpoint`` (one of these) and options of
            :func:`lib.internimage.checkpoints.loading.load_weights` (``classes``, ``ema``, ``partial``).
        self_training: learn from the target's unlabelled frames as well (see :mod:`lib.training.self_training`); its settings
            are the recipe's, and ``options`` such as ``{"self_training.threshold": 0.95}``.
        seed: of initialisation, sampling and augmentation.
        amp: mixed precision: ``"bf16"``, ``"fp16"``, True (bf16 where the GPU has it, else fp16) or False; without a
            GPU it has no effect.
        options: overrides of the recipe's entries by dotted name; :mod:`lib.recipes.memory` has those that save
            memory.
        overwrite: replace a training made with other parameters, and start from its beginning.

    Returns:
        The best checkpoint by validation mIoU.

    Raises:
        InputError: nothing to train on, unknown recipe, a checkpoint that does not fit, a value out of range, or a
            folder of other parameters.
        RuntimeError: the training process failed; carries its last lines.
    """
    out = Path(out)
    augmented = out / "augmented"
    if finished(out, "augment") is None:
        raise InputError(f"{augmented} is missing or unfinished. Run 01_augment for this run folder first.")
    check_self_training(options or {}, self_training)
    cfg = recipes.resolve(recipe, augmented, max_iters=max_iters, batch_size=batch_size, seed=seed, options=options)
    load_from = str(load_from) if isinstance(load_from, Path) else load_from or None
    if self_training:
        add_self_training(cfg, augmented, seed)
    parameters = {
        "recipe": str(recipe),
        "max_iters": cfg.max_iters,
        "batch_size": cfg.batch_size,
        "load_from": load_from,
        "self_training": self_training,
        "seed": seed,
        "amp": amp,
        "options": options or {},
        "augmented": read_yaml(augmented / "parameters.yaml"),
    }
    # All that can be refused is refused before `overwrite` deletes a former training.
    if amp not in (*PRECISIONS, True, False):
        raise InputError(f"amp: {amp!r} (expected True, False, {' or '.join(map(repr, PRECISIONS))})")
    processes = processes or max(1, gpus())
    if cfg.get("shard") and (processes < 2 or amp == "fp16"):
        raise InputError(f"shard: with processes={processes} and amp={amp!r} (expected several processes, and no fp16)")
    if cfg.get("shard") and self_training:
        raise InputError("shard: with self_training (expected one of the two; the teacher needs its whole student)")
    cfg.amp, cfg.start_weights = amp, _start_weights(cfg, load_from) if load_from else None
    layout.check(augmented, ("train_source", "val_source"), classes=len(CLASSES_WITH_BACKGROUND))
    folder = claim(out / "train", parameters, overwrite=overwrite)
    done = finished(out, "train")
    if done and done["parameters"] == parameters and (best := best_checkpoint(out)):
        return best
    cfg.work_dir = str(folder.resolve())
    cfg.dump(folder / "config.py")
    with recorded(out, "train", parameters) as results:
        results["processes"] = processes
        run(folder, processes, cfg.max_iters, cfg.num_workers)
        best = best_checkpoint(out)
        results["checkpoint"] = best.name
        results["val_mIoU"] = max(scalars(out).get("mIoU", ((), (float("nan"),)))[1])
        _draw_curves(out, folder / "curves.png")
    return best


def _start_weights(cfg, load_from: str | dict) -> dict:
    """Arguments of ``load_weights``, of which it is known that they fit the recipe's network; downloads the file."""
    import torch
    from mmengine.registry import init_default_scope
    from mmengine.utils import import_modules_from_strings
    from mmseg.registry import MODELS

    from lib.internimage.checkpoints import loading, releases

    source, options = loading.start(load_from)
    source = str(releases.fetch(source).resolve())
    import_modules_from_strings(**cfg.custom_imports)
    init_default_scope(cfg.default_scope)
    with torch.device("meta"):
        network = MODELS.build(deepcopy(recipes.network(cfg)))
    print(loading.check(network, source, allow_backbone=True, **options))
    return dict(source=source, **options)


def best_checkpoint(out: str | Path) -> Path | None:
    """The newest best checkpoint by validation mIoU in ``out/train``; the last one if none was scored."""
    folder = Path(out) / "train"
    found = sorted(folder.glob("best_mIoU_iter_*.pth"), key=step) or sorted(folder.glob("iter_*.pth"), key=step)
    return found[-1] if found else None


def checkpoints(out: str | Path) -> list[Path]:
    """All checkpoints in ``out/train``, one per iteration, oldest first."""
    folder = Path(out) / "train"
    kept = {step(path): path for pattern in ("best_mIoU_iter_*.pth", "iter_*.pth") for path in folder.glob(pattern)}
    return [kept[number] for number in sorted(kept)]


def scalars(out: str | Path) -> dict[str, tuple[list[int], list[float]]]:
    """Name to (iterations, values) of what ``out/train`` logged, over all its resumptions."""
    found: dict[str, dict[int, float]] = {}
    for path in sorted((Path(out) / "train").glob("*/vis_data/scalars.json")):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            for name in {"loss", "lr", "mIoU", "source", "target", "sure"} & entry.keys():
                found.setdefault(name, {})[entry["step"]] = entry[name]
    return {name: tuple(map(list, zip(*sorted(values.items()), strict=True))) for name, values in found.items()}


def _draw_curves(out: str | Path, path: Path) -> None:
    import matplotlib.pyplot as plt

    from lib.diagnostics import plots

    figure = plots.curves(scalars(out))
    figure.savefig(path, dpi=100)
    plt.close(figure)
