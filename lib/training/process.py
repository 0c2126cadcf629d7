"""The process that trains: started, followed, and started again where native code brought it down.

``python -m lib.training.process CONFIG``, under torchrun when there are several, so that a notebook stays responsive
and several GPUs can be used. It goes on from the newest ``iter_*.pth`` beside CONFIG.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from lib.errors import InputError

PRECISIONS = {"bf16": "bfloat16", "fp16": "float16"}
"""Mixed precisions by what ``amp`` calls them."""
_FAULT = "@fault "
_TAIL = 30
_LAUNCHER = re.compile(r"[WE]\d{4} \S+ \d+ \S*torch/distributed/elastic/")
"""How torchrun begins to speak of a failure; what a process said of it stands before."""
_CRASHES = {-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGFPE, -signal.SIGILL}
"""Exit codes of a process that neither Python nor a person ended."""


def gpus() -> int:
    """How many GPUs torch sees."""
    import torch

    return torch.cuda.device_count()


def step(checkpoint: Path) -> int:
    """The iteration in a checkpoint's name."""
    return int(re.search(r"iter_(\d+)", checkpoint.name)[1])


def last_checkpoint(folder: Path) -> Path | None:
    """The checkpoint in ``folder`` that a training goes on from. mmengine's own note of it comes later than the file,
    and names a folder that may have moved."""
    return max(folder.glob("iter_*.pth"), key=step, default=None)


def run(folder: Path, processes: int, max_iters: int, workers: int) -> None:
    """Train as ``folder/config.py`` says, showing a progress bar; all output goes to ``folder/train.log``.

    Processes that crash (a fault in native code, not an exception) are started again from their newest checkpoint,
    as long as they had come to a new one.

    Args:
        folder: of the training; its checkpoints are gone on from.
        processes: how many; each drives one GPU where there are any.
        max_iters: as in the config.
        workers: data loaders of a process, as in the config.

    Raises:
        InputError: something the user gave is wrong.
        RuntimeError: the training failed; carries the last lines of its output.
    """
    command = [sys.executable, "-m"]
    if processes > 1:
        command += ["torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m"]
    command += [__name__, str(folder / "config.py")]
    root = str(Path(__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    # Only the loaders' workers have matrix products for numpy; its threads would take their cores from the network's.
    env.setdefault("OPENBLAS_NUM_THREADS", "1")
    env.setdefault("PYTHONFAULTHANDLER", "1")
    cores = os.cpu_count() or 1
    if not gpus():
        cores -= (
            processes * workers
        )  # a small network is slowed down more by waiting for a core than by having one less
    if processes > 1 or not gpus():
        env.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))
    while True:
        begun = last_checkpoint(folder)
        end = _once(command, env, folder / "train.log", max_iters)
        reached = last_checkpoint(folder)
        if end.code not in _CRASHES or reached == begun:
            break
        print(
            f"The training crashed ({_named(end.code)}, see {folder / 'train.log'}); it goes on from {reached.name}.",
            file=sys.stderr,
            flush=True,
        )
    if end.fault:
        raise InputError(end.fault)
    if end.code:
        raise RuntimeError(
            f"the training process ended with {_named(end.code)}; it goes on from its last checkpoint, if there is one, "
            f"when run again. All of its output: {folder / 'train.log'}. Its last lines:\n{''.join(end.tail)}"
        )


def _named(code: int) -> str:
    return f"exit code {code}" + (f" ({signal.Signals(-code).name})" if code < 0 else "")


@dataclass
class _End:
    """How a training process ended.

    Attributes:
        code: exit code, of the first of several that failed; -N: signal N.
        fault: what the user gave wrong, in its words.
        tail: its last lines, without torchrun's.
    """

    code: int = 0
    fault: str = ""
    tail: tuple[str, ...] = ()


def _once(command: list[str], env: dict[str, str], log: Path, max_iters: int) -> _End:
    child = subprocess.Popen(
        command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=_die_with_parent
    )
    try:
        end = _follow(child, log, max_iters)
    except BaseException:
        child.terminate()
        raise
    finally:
        child.wait()
    end.code = end.code or child.returncode
    return end


def _follow(child: subprocess.Popen, log: Path, max_iters: int) -> _End:
    """Read the child's output until it ends."""
    from lib.training.progress import PROGRESS

    end, shown, over = _End(), None, False
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
                end.fault = line.removeprefix(_FAULT).strip()
            over = over or _LAUNCHER.search(line) is not None  # perhaps amid what a process was saying
            if over and not end.code and (failed := re.search(r"failed \(exitcode: (-?\d+)\)", line)):
                end.code = int(failed[1])
            if not over and "Extension modules:" not in line:
                end.tail = (*end.tail[-_TAIL + 1 :], line)
    return end


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

    from lib.internimage.checkpoints.loading import load_weights

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
    last = last_checkpoint(Path(config).parent)
    cfg.resume, cfg.load_from = last is not None, last and str(last)
    if cfg.get("shard"):
        from lib.training.sharding import ShardedRunner as Runner
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
    if distributed:
        torch.distributed.destroy_process_group()
        # Where weights are spread its threads live on, and may abort the process when the interpreter goes before them.
        for worker in multiprocessing.active_children():
            worker.terminate()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _mixed_precision(amp: bool | str, bf16: bool, shard: bool | None = None) -> dict:
    """Entries of an optimiser wrapper; ``bf16``: the GPU has it; ``shard``: weights are spread."""
    dtype = PRECISIONS.get(amp) or PRECISIONS["bf16" if bf16 else "fp16"]
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
