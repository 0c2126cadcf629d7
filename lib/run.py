"""What every stage needs around its work: user-facing errors, whole files, and the record of a run.

A stage's folder carries ``parameters.yaml``, so that a second run knows whether the files it finds are its
own; the run folder carries ``run.yaml``, which says what made each result.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import yaml

from lib.errors import InputError
from lib.files import read_yaml, write_yaml


def claim(folder: str | Path, parameters: dict, overwrite: bool = False) -> Path:
    """Make ``folder`` this stage's own, or go on with it when the same parameters made it.

    Args:
        folder: created when missing.
        parameters: plain values (numbers, strings, lists) that determine the folder's files.
        overwrite: delete what other parameters made, instead of refusing.

    Raises:
        InputError: the folder holds results of other parameters; names those that differ.
    """
    folder = Path(folder)
    note = folder / "parameters.yaml"
    parameters = yaml.safe_load(yaml.safe_dump(parameters))
    if folder.exists() and not note.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} holds files that no run of this stage made. Choose another output folder.")
    if overwrite and folder.exists():
        shutil.rmtree(folder)
    if note.exists():
        before = read_yaml(note)
        different = [k for k in {**before, **parameters} if before.get(k) != parameters.get(k)]
        if different:
            found = "; ".join(f"{k}: {before.get(k)!r} there, {parameters.get(k)!r} now" for k in different)
            raise InputError(
                f"{folder} holds results made with other parameters ({found}). "
                "Choose another output folder, or pass overwrite=True (--overwrite) to replace them."
            )
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_yaml(note, parameters)
    return folder


def environment() -> dict:
    """Versions, git commit and device, for ``run.yaml``."""
    import torch

    packages = ("torch", "onedl-mmengine", "onedl-mmcv", "onedl-mmsegmentation", "opencv-python", "numpy")
    versions = {name: metadata.version(name) for name in packages}
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    if torch.cuda.is_available():
        device = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    else:
        device = [f"cpu, {os.cpu_count()} cores, {platform.machine()}"]
    return {
        "python": platform.python_version(),
        "versions": versions,
        "git": git.stdout.strip() or "unknown",
        "device": device,
    }


@contextmanager
def recorded(out: str | Path, stage: str, parameters: dict):
    """Enter the stage in ``out/run.yaml`` when the block succeeds: parameters, environment, seconds.

    While the block runs the stage has no entry, so an entry means that the stage was finished. The yielded
    dict may be filled with plain values worth keeping (paths, scores).
    """
    path = Path(out) / "run.yaml"
    record = read_yaml(path)
    if record.pop(stage, None) is not None:
        write_yaml(path, record)
    results: dict = {}
    start = time.perf_counter()
    yield results
    record = read_yaml(path)
    record[stage] = {
        "parameters": parameters,
        "results": results,
        "seconds": round(time.perf_counter() - start, 1),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        **environment(),
    }
    write_yaml(path, record)


def finished(out: str | Path, stage: str) -> dict | None:
    """The stage's entry in ``out/run.yaml``; None unless the stage was finished."""
    return read_yaml(Path(out) / "run.yaml").get(stage)


STAGES = ("augment", "train", "infer", "submit")
"""The stages in their order; a notebook for each."""


class Run:
    """A run folder: the only place that knows its files, and when a stage is done.

    A stage is done when it finished with the same options, from inputs of the same content, its results are still
    there, and no earlier stage ran after it.

    Attributes:
        folder: the run folder.
        augmented, train, masks, visualization, notebooks: the folders in it.
        submission: the checked ``submission.csv``.
        config: the complete mmengine config that trains.
        log, curves: output and plots of the training.
        warm_start: folder of the run that the training continues from, if any.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.augmented, self.train = self.folder / "augmented", self.folder / "train"
        self.masks, self.visualization = self.folder / "masks", self.folder / "visualization"
        self.notebooks, self.warm_start = self.folder / "notebooks", self.folder / "warm_start"
        self.submission = self.folder / "submission.csv"
        self.config, self.log, self.curves = (self.train / n for n in ("config.py", "train.log", "curves.png"))
        self._results = {
            "augment": self.augmented / "train_source.csv",
            "train": self.config,
            "infer": self.masks,
            "submit": self.submission,
        }

    def checkpoints(self) -> list[Path]:
        """Return the training's checkpoints, one per iteration, oldest first."""
        kept = {iteration(p): p for glob in ("best_mIoU_iter_*.pth", "iter_*.pth") for p in self.train.glob(glob)}
        return [kept[number] for number in sorted(kept)]

    def best_checkpoint(self) -> Path | None:
        """Return the best checkpoint by validation mIoU, the last one if none was scored, None if there is none."""
        best = sorted(self.train.glob("best_mIoU_iter_*.pth"), key=iteration)
        return (best or self.checkpoints() or [None])[-1]

    def last_checkpoint(self) -> Path | None:
        """Return the checkpoint from which the training resumes."""
        return max(self.train.glob("iter_*.pth"), key=iteration, default=None)


def iteration(checkpoint: Path) -> int:
    """Return the iteration in a checkpoint's name."""
    return int(checkpoint.stem.rpartition("_")[2])
