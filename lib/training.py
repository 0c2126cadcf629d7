"""Train a recipe on an augmented set (stage 02).

The work is done by a child process (``python -m lib.training CONFIG``, under torchrun when there are several),
so that a notebook stays responsive and several GPUs can be used; this module starts it, shows its progress,
and turns its failure into one sentence. A killed training goes on from its last checkpoint.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

from tqdm import tqdm

from lib import adaptation, dataset, recipes
from lib.classes import CLASSES_WITH_BACKGROUND
from lib.runs import InputError, claim, finished, read_yaml, recorded

_FAULT = "@fault "
_PRECISIONS = {"bf16": "bfloat16", "fp16": "float16"}
_TAIL = 15


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
            :func:`lib.internimage.checkpoints.load_weights` (``classes``, ``ema``, ``partial``).
        self_training: learn from the target's unlabelled frames as well (see :mod:`lib.adaptation`); its settings
            are the recipe's, and ``options`` such as ``{"self_training.threshold": 0.95}``.
        seed: of initialisation, sampling and augmentation.
        amp: mixed precision: ``"bf16"``, ``"fp16"``, True (bf16 where the GPU has it, else fp16) or False; without a
            GPU it has no effect.
        options: overrides of the recipe's entries by dotted name; :mod:`lib.recipes.fitting` has those that save
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
    adaptation.check(options or {}, self_training)
    cfg = recipes.resolve(recipe, augmented, max_iters=max_iters, batch_size=batch_size, seed=seed, options=options)
    load_from = str(load_from) if isinstance(load_from, Path) else load_from or None
    if self_training:
        adaptation.add(cfg, augmented, seed)
    parameters = {
        "recipe": str(recipe), "max_iters": cfg.max_iters, "batch_size": cfg.batch_size,
        "load_from": load_from, "self_training": self_training, "seed": seed, "amp": amp, "options": options or {},
        "augmented": read_yaml(augmented / "parameters.yaml"),
    }  # fmt: skip
    # All that can be refused is refused before `overwrite` deletes a former training.
    if amp not in (*_PRECISIONS, True, False):
        raise InputError(f"amp: {amp!r} (expected True, False, {' or '.join(map(repr, _PRECISIONS))})")
    processes = processes or max(1, _gpus())
    if cfg.get("shard") and (processes < 2 or amp == "fp16"):
        raise InputError(f"shard: with processes={processes} and amp={amp!r} (expected several processes, and no fp16)")
    if cfg.get("shard") and self_training:
        raise InputError("shard: with self_training (expected one of the two; the teacher needs its whole student)")
    cfg.amp, cfg.start_weights = amp, _start_weights(cfg, load_from) if load_from else None
    dataset.check(augmented, ("train_source", "val_source"), classes=len(CLASSES_WITH_BACKGROUND))
    folder = claim(out / "train", parameters, overwrite)
    done = finished(out, "train")
    if done and done["parameters"] == parameters and (best := best_checkpoint(out)):
        return best
    cfg.work_dir = str(folder.resolve())
    cfg.dump(folder / "config.py")
    with recorded(out, "train", parameters) as results:
        results["processes"] = processes
        _run(folder, processes, cfg.max_iters, cfg.num_workers)
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

    from lib.internimage import checkpoints, releases

    source, options = checkpoints.start(load_from)
    source = str(releases.fetch(source).resolve())
    import_modules_from_strings(**cfg.custom_imports)
    init_default_scope(cfg.default_scope)
    with torch.device("meta"):
        network = MODELS.build(deepcopy(recipes.network(cfg)))
    print(checkpoints.check(network, source, allow_backbone=True, **options))
    return dict(source=source, **options)


def best_checkpoint(out: str | Path) -> Path | None:
    """The newest best checkpoint by validation mIoU in ``out/train``; the last one if none was scored."""
    folder = Path(out) / "train"
    found = sorted(folder.glob("best_mIoU_iter_*.pth"), key=_step) or sorted(folder.glob("iter_*.pth"), key=_step)
    return found[-1] if found else None


def checkpoints(out: str | Path) -> list[Path]:
    """All checkpoints in ``out/train``, one per iteration, oldest first."""
    folder = Path(out) / "train"
    kept = {_step(path): path for pattern in ("best_mIoU_iter_*.pth", "iter_*.pth") for path in folder.glob(pattern)}
    return [kept[step] for step in sorted(kept)]


def _step(checkpoint: Path) -> int:
    return int(re.search(r"iter_(\d+)", checkpoint.name)[1])


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

    from lib import figures

    figure = figures.curves(scalars(out))
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _run(folder: Path, processes: int, max_iters: int, workers: int) -> None:
    """Run the training process to its end, showing a progress bar; its output goes to ``train.log``."""
    command = [sys.executable, "-m"]
    if processes > 1:
        command += ["torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m"]
    command += [__name__, str(folder / "config.py")]
    root = str(Path(__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    # Only the loaders' workers have matrix products for numpy; its threads would take their cores from the network's.
    env.setdefault("OPENBLAS_NUM_THREADS", "1")
    cores = os.cpu_count() or 1
    if not _gpus():
        cores -= processes * workers  # a small network is slowed down more by waiting for a core than by having one less
    if processes > 1 or not _gpus():
        env.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))
    child = subprocess.Popen(
        command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=_die_with_parent
    )
    try:
        fault, tail = _follow(child, folder / "train.log", max_iters)
    except BaseException:
        child.terminate()
        raise
    finally:
        child.wait()
    if fault:
        raise InputError(fault)
    if child.returncode:
        raise RuntimeError(
            f"the training process ended with exit code {child.returncode}; it goes on from its last checkpoint "
            f"when run again. All of its output: {folder / 'train.log'}. Its last lines:\n{''.join(tail)}"
        )


def _follow(child: subprocess.Popen, log: Path, max_iters: int) -> tuple[str, list[str]]:
    """Read the child's output until it ends; returns its fault, if it named one, and its last lines."""
    from lib.recipes.progress import PROGRESS

    fault, tail, shown = "", [], None
    with log.open("a") as file, tqdm(total=max_iters, desc="train", unit="iter", mininterval=1) as bar:
        for line in child.stdout:
            if line.startswith(PROGRESS):
                state = json.loads(line.removeprefix(PROGRESS))
                if shown is None:  # a resumed training does not start at zero
                    bar.initial = bar.n = state["iter"]
                shown = (shown or {}) | {k: f"{v:.3g}" for k, v in state.items() if k != "iter"}
                bar.set_postfix(shown, refresh=False)
                bar.update(state["iter"] - bar.n)
                continue
            file.write(line)
            file.flush()
            if line.startswith(_FAULT):
                fault = line.removeprefix(_FAULT).strip()
            tail = [*tail[-_TAIL + 1 :], line]
    return fault, tail


def _die_with_parent() -> None:
    """Linux: end this process when the one that started it is gone, however that ended."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def _work(config: str) -> None:
    """The training process: one of ``WORLD_SIZE``."""
    import torch
    from mmengine import Config
    from mmengine.runner import Runner

    from lib.internimage.checkpoints import load_weights

    cfg = Config.fromfile(config)
    distributed = int(os.environ.get("WORLD_SIZE", 1)) > 1
    if distributed:
        cfg.launcher = "pytorch"
    if torch.cuda.is_available():
        if cfg.amp:
            cfg.optim_wrapper.update(_mixed_precision(cfg.amp, torch.cuda.is_bf16_supported(), cfg.get("shard")))
    else:
        _replace(cfg._cfg_dict, "SyncBN", "BN")
        if distributed:  # mmengine's own start would ask for a GPU
            torch.distributed.init_process_group("gloo")
            cfg.model_wrapper_cfg = dict(type="MMDistributedDataParallel", device_ids=None)
    # By the files themselves: mmengine's own note of the last one comes later, and names a folder that may have moved.
    last = max(Path(config).parent.glob("iter_*.pth"), key=_step, default=None)
    cfg.resume, cfg.load_from = last is not None, last and str(last)
    if cfg.get("shard"):
        from lib.recipes.sharding import ShardedRunner as Runner  # noqa: F811
    runner = Runner.from_cfg(cfg)
    network = getattr(runner.model, "module", runner.model)
    if cfg.get("shard") or (cfg.start_weights and last is None):
        network.init_weights()  # now, since the runner would do it after the weights are loaded
    if cfg.start_weights and last is None:
        network = getattr(network, "student", network)  # of self-training
        print(load_weights(network, allow_backbone=True, **cfg.start_weights), flush=True)
    if cfg.get("shard"):
        runner.shard()
    runner.train()
    if distributed:  # its threads must not outlive the interpreter
        torch.distributed.destroy_process_group()


def _mixed_precision(amp: bool | str, bf16: bool, shard: bool | None = None) -> dict:
    """Entries of an optimiser wrapper; ``bf16``: the GPU has it; ``shard``: weights are spread."""
    dtype = _PRECISIONS.get(amp) or _PRECISIONS["bf16" if bf16 else "fp16"]
    if shard and dtype == "float16":
        raise InputError("shard: this GPU has no bf16, and spread weights do not train in fp16; pass amp=False.")
    # bf16 reaches as far as fp32, so that its gradients need no scaling.
    return dict(type="AmpOptimWrapper", dtype=dtype, loss_scale=dict(enabled=dtype == "float16"))


def _replace(values, old: str, new: str) -> None:
    """Replace the value ``old`` by ``new`` throughout nested dicts and lists."""
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        if value == old:
            values[key] = new
        elif isinstance(value, dict | list):
            _replace(value, old, new)


if __name__ == "__main__":
    try:
        _work(sys.argv[1])
    except InputError as error:
        print(f"{_FAULT}{error}", flush=True)
        sys.exit(2)
