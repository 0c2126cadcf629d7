"""The run folder: its files, the record of its stages, and when a stage is done."""

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from lib import files
from lib.errors import InputError
from lib.files import digest_of, read_json, read_yaml, write_json, write_yaml
from lib.options import Options

STAGES = ("augment", "train", "infer", "submit")
"""The stages in their order; a notebook for each."""

_SHOWN = 3  # changed inputs that a message names


class Run:
    """A run folder: the only place that knows its files, and when a stage is done.

    A stage is done when it finished with the same options, from inputs of the same content, its results are still
    there, and no earlier stage ran after it. ``run.yaml`` records each stage that finished. Attributes are the paths.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.augmented, self.train = self.folder / "augmented", self.folder / "train"
        self.masks, self.visualization = self.folder / "masks", self.folder / "visualization"
        self.notebooks, self.warm_start = self.folder / "notebooks", self.folder / "warm_start"
        self.submission = self.folder / "submission.csv"
        self.config, self.log, self.curves = (self.train / n for n in ("config.json", "train.log", "curves.png"))
        self._record = self.folder / "run.yaml"

    def entry(self, stage: str) -> dict | None:
        """Return the record of a stage (parameters, results, seconds, versions); None unless it finished."""
        return read_yaml(self._record).get(stage)

    def is_done(self, stage: str, options: Options) -> bool:
        """Return whether a stage is done; ``options`` are its resolved ones."""
        entry = self.entry(stage)
        if entry is None or _changed(entry["parameters"], options.identity(), options.defaults()):
            return False
        return entry["inputs"] == digest_of(options.inputs()) and self._has_results(stage)

    def claim(self, stage: str, options: Options, overwrite: bool = False) -> Path:
        """Create the stage's folder, or keep one of the same options and inputs to continue an interrupted stage.

        Args:
            stage: ``augment``, ``train`` or ``infer``.
            options: its resolved options.
            overwrite: see :func:`claim`, which says what is refused.
        """
        folder = claim(self._folder(stage), options.identity(), options.inputs(), overwrite, options.defaults())
        if overwrite and stage == "infer" and self.visualization.exists():
            shutil.rmtree(self.visualization)
        return folder

    @contextmanager
    def recorded(self, stage: str, options: Options) -> Iterator[dict]:
        """Record the stage as finished when the block succeeds.

        From the block's beginning neither this stage nor a later one counts as finished. The yielded dict takes plain
        values worth keeping, such as scores.
        """
        record = read_yaml(self._record)
        kept = {name: entry for name, entry in record.items() if name not in STAGES[STAGES.index(stage) :]}
        if kept != record:
            write_yaml(self._record, kept)
        results: dict[str, Any] = {}
        made_from, start = digest_of(options.inputs()), time.perf_counter()
        yield results
        entry = {
            "parameters": options.identity(),
            "inputs": made_from,
            "results": results,
            "seconds": round(time.perf_counter() - start, 1),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        write_yaml(self._record, kept | {stage: entry | environment()})

    def digests(self, paths: Iterable[str | Path], root: str | Path) -> dict[str, str]:
        """Return the digests of files by their path relative to ``root``; unchanged files are not read again."""
        found = files.digests(paths, self.folder / "digests.json")
        return {os.path.relpath(path, root): value for path, value in found.items()}

    def digest(self, stage: str) -> str:
        """Return the digest of a finished stage's parameters and inputs, an input of the stages that follow."""
        entry = self.entry(stage) or {}
        return digest_of([entry.get("parameters"), entry.get("inputs")])

    def checkpoints(self) -> list[Path]:
        """Return the training's checkpoints, one per iteration, oldest first."""
        kept = {iteration(p): p for glob in ("best_mIoU_iter_*.pth", "iter_*.pth") for p in self.train.glob(glob)}
        return [kept[number] for number in sorted(kept)]

    def best_checkpoint(self) -> Path | None:
        """Return the best checkpoint by validation mIoU, the last one if none was scored, None if there is none."""
        best = sorted(self.train.glob("best_mIoU_iter_*.pth"), key=iteration) or self.checkpoints()
        return best[-1] if best else None

    def last_checkpoint(self) -> Path | None:
        """Return the checkpoint from which the training resumes."""
        return max(self.train.glob("iter_*.pth"), key=iteration, default=None)

    def _folder(self, stage: str) -> Path:
        return {"augment": self.augmented, "train": self.train, "infer": self.masks}[stage]

    def _has_results(self, stage: str) -> bool:
        if stage == "submit":
            return self.submission.is_file()
        if stage == "train":
            return self.best_checkpoint() is not None
        return self._folder(stage).is_dir()


def iteration(checkpoint: Path) -> int:
    """Return the iteration in a checkpoint's name."""
    return int(checkpoint.stem.rpartition("_")[2])


def claim(
    folder: str | Path,
    parameters: Mapping,
    inputs: Mapping[str, str] | None = None,
    overwrite: bool = False,
    defaults: Mapping | None = None,
) -> Path:
    """Create a folder of results, or keep one that the same parameters and inputs made.

    ``parameters.yaml`` and ``inputs.json`` in the folder record both.

    Args:
        folder: created when missing.
        parameters: plain values that determine the folder's files.
        inputs: digests of what the files are made from, by name.
        overwrite: delete what the folder holds, instead of keeping or refusing it.
        defaults: values of parameters that the folder's version of the program did not have yet.

    Raises:
        InputError: the folder holds results of other parameters or inputs (names those that differ), or files of
            another origin.
    """
    folder, inputs = Path(folder), dict(inputs or {})
    note, made_from = folder / "parameters.yaml", folder / "inputs.json"
    if folder.exists() and not note.exists() and set(folder.iterdir()) - {made_from}:
        raise InputError(f"{folder} holds files that no run of this stage made. Choose another output folder.")
    if overwrite and folder.exists():
        shutil.rmtree(folder)
    if not note.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(made_from, inputs)
        write_yaml(note, parameters)
        return folder
    before, remedy = read_yaml(note), "Choose another output folder, or pass overwrite=True (--overwrite)"
    if names := _changed(before, parameters, defaults):
        found = "; ".join(f"{name}: {before.get(name)!r} there, {parameters.get(name)!r} now" for name in names)
        raise InputError(f"{folder} holds results made with other parameters ({found}). {remedy} to replace them.")
    if names := _changed(read_json(made_from), inputs):
        found = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        raise InputError(f"{folder} holds results made from other inputs (changed: {found}). {remedy} to replace them.")
    return folder


def _changed(before: Mapping, now: Mapping, defaults: Mapping | None = None) -> list[str]:
    """Return the names whose values differ."""
    latter = yaml.safe_load(yaml.safe_dump(dict(now)))
    former = {name: value for name, value in (defaults or {}).items() if name in latter} | dict(before)
    return [name for name in former | latter if former.get(name) != latter.get(name)]


def environment() -> dict:
    """Return versions, git commit and device, for ``run.yaml``."""
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
