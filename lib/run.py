"""The run folder: its files, the record of its stages, and when a stage is done."""

import functools
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, TypeVar

from lib import files
from lib.claims import INPUTS, changed, changed_inputs, claim, placeless, placeless_names
from lib.errors import InputError
from lib.files import digest_of, read_json, read_yaml, write_yaml
from lib.options import Options

STAGES = ("augment", "train", "infer", "submit")
"""The stages in their order; a notebook for each."""

_NOTEBOOKS = {stage: f"{number:02d}_{stage}" for number, stage in enumerate(STAGES, 1)}


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
        self.config, self.log, self.curves = (self.train / n for n in ("config.py", "train.log", "curves.png"))
        self._record = self.folder / "run.yaml"

    def entry(self, stage: str) -> dict | None:
        """Return the record of a stage (parameters, results, seconds, versions); None unless it finished."""
        return read_yaml(self._record).get(stage)

    def is_done(self, stage: str, options: Options) -> bool:
        """Return whether a stage is done; ``options`` are its resolved ones."""
        entry = self.entry(stage)
        if entry is None or changed(entry["parameters"], options.identity(), options.defaults()):
            return False
        return entry["inputs"] == digest_of(options.inputs()) and self._has_results(stage) and options.is_whole()

    def need(self, stage: str) -> None:
        """Raise InputError unless a stage finished; say which file or folder is missing."""
        if self.entry(stage):
            return
        folder, again = self._folder(stage), f"Run {_NOTEBOOKS[stage]} for this run folder first."
        if not folder.is_dir():
            raise InputError(f"{folder} is missing. {again}")
        if not self._record.exists():
            remedy = f"Copy it with the run folder, or run {_NOTEBOOKS[stage]} again, which keeps finished files."
            raise InputError(f"{self._record} is missing, though {folder} is there. {remedy}")
        raise InputError(f"{folder} is unfinished. {again}")

    def changes(self, stage: str, options: Options) -> str:
        """Return a sentence that names the changed inputs of a stage's results; empty for none or other options."""
        if stage == "submit":
            entry = self.entry(stage)
            same = entry is None or entry["inputs"] == digest_of(options.inputs())
            return "" if same else f"{self.submission} was made from other tables or masks"
        return changed_inputs(self._folder(stage), options.identity(), options.inputs(), options.defaults())

    def claim(self, stage: str, options: Options, overwrite: bool = False, restart: bool = False) -> Path:
        """Create the stage's folder, or keep one of the same options and inputs to continue an interrupted stage.

        Args:
            stage: ``augment``, ``train`` or ``infer``.
            options: its resolved options.
            overwrite, restart: see :func:`claim`, which says what is refused. From a replacement on, neither this stage
                nor a later one counts as finished.
        """
        return claim(
            self._folder(stage),
            options.identity(),
            options.inputs(),
            overwrite,
            options.defaults(),
            restart,
            attached=[self.visualization] if stage == "infer" else [],
            forget=lambda: self._forget(stage),
        )

    @contextmanager
    def recorded(self, stage: str, options: Options) -> Iterator[dict]:
        """Record the stage as finished when the block succeeds.

        From the block's beginning neither this stage nor a later one counts as finished. The yielded dict takes plain
        values worth keeping, such as scores.
        """
        kept = self._forget(stage)
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
        return placeless_names({os.path.relpath(path, root): value for path, value in found.items()})

    def made_from(self, stage: str) -> set[str]:
        """Return the digests of the inputs of a stage's results; empty where none are recorded."""
        return set(read_json(self._folder(stage) / INPUTS).values())

    @contextmanager
    def locked(self, work: str = "stage") -> Iterator[None]:
        """Keep other processes from the same ``work`` ("stage" or "pipeline") in this folder; sweep what died there.

        Raises:
            InputError: another process is at it; names its number, its machine and its start.
        """
        with files.locked(self.folder / f".{work}.lock"):
            files.sweep(self.folder)
            yield

    def digest(self, stage: str) -> str:
        """Return the digest of a finished stage's parameters and inputs, an input of the stages that follow."""
        entry = self.entry(stage) or {}
        return digest_of([placeless(entry.get("parameters")), entry.get("inputs")])

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

    def _forget(self, stage: str) -> dict:
        """Remove a stage and those after it from the record; return what stays."""
        record = read_yaml(self._record)
        kept = {name: entry for name, entry in record.items() if name not in STAGES[STAGES.index(stage) :]}
        if kept != record:
            write_yaml(self._record, kept)
        return kept

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


class _StageOptions(Protocol):
    @property
    def out(self) -> str: ...


_Given = TypeVar("_Given", bound=_StageOptions)
_Result = TypeVar("_Result")


def alone(stage: Callable[[_Given], _Result]) -> Callable[[_Given], _Result]:
    """Let a stage's function run only while no other stage runs in its run folder."""

    @functools.wraps(stage)
    def locked(options: _Given) -> _Result:
        with Run(options.out).locked():
            return stage(options)

    return locked


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
