"""Kills at every file event of a replacement, then a resumption: the folder is never blocked, nothing is mixed."""

import shutil
from collections.abc import Callable
from pathlib import Path

from lib.errors import InputError
from lib.files import read_yaml
from tests.builders import tree
from tests.faults.kills import events, killed

SIZES = dict(source=2, val=1, target=3, test=2, size=(96, 54))
_NOTES = ("digests.json", "run.yaml")  # of a run: they hold times


def run(folder: Path) -> dict[str, int]:
    """Return the figures of stages 01 and 03: ``kills``, of them ``blocked`` and ``mixed``."""
    figures = {"kills": 0, "blocked": 0, "mixed": 0}
    for name, stage in {"augment": _augment, "infer": _infer}.items():
        for key, value in kill_everywhere(*stage(folder / name)).items():
            figures[key] += value
    return figures


def kill_everywhere(before: Path, work: Callable[..., object]) -> dict[str, int]:
    """Kill the replacement of a run's results at each of its file events; then continue it, or return to the former.

    Args:
        before: a run folder with results of ``work(run, 0)``; its copies get names beside it.
        work: makes the results of a seed in a run folder: ``work(run, seed, overwrite=False)``.
    """
    wanted = {}
    for seed in (0, 1):
        undisturbed = before.with_name(f"undisturbed{seed}")
        shutil.copytree(before, undisturbed)
        work(undisturbed, seed, overwrite=True)
        wanted[seed] = _results(undisturbed)
    assert wanted[0] == _results(before) != wanted[1]
    place = before.with_name("killed")
    shutil.copytree(before, place)
    count = events(lambda: work(place, 1, overwrite=True))
    figures = {"kills": 0, "blocked": 0, "mixed": 0}
    for at in range(1, count + 1):
        for seed in (1, 0):  # the replacement again, or the former options again
            shutil.rmtree(place)
            shutil.copytree(before, place)
            figures["kills"] += killed(lambda: work(place, 1, overwrite=True), at)
            try:
                work(place, seed, overwrite=True)
            except InputError:
                figures["blocked"] += 1
            else:
                figures["mixed"] += _results(place) != wanted[seed]
    return figures


def _results(run: Path) -> dict[str, bytes]:
    """Return all files of a run folder; of the record, which stages finished with which parameters."""
    content = {name: value for name, value in tree(run).items() if name not in _NOTES}
    record = {stage: str(entry["parameters"]) for stage, entry in read_yaml(run / "run.yaml").items()}
    return content | {"run.yaml": str(record).encode()}


def _augment(folder: Path) -> tuple[Path, Callable[..., object]]:
    """Return a run with an augmented set, and the work of stage 01."""
    from lib.sample import write
    from lib.stages.augment import AugmentOptions, augment

    data = write(folder / "data", **SIZES)

    def work(run: Path, seed: int, overwrite: bool = False) -> None:
        augment(AugmentOptions(data=data, out=run, augment=False, seed=seed, overwrite=overwrite))

    work(folder / "before", 0)
    return folder / "before", work


def _infer(folder: Path) -> tuple[Path, Callable[..., object]]:
    """Return a run with masks, and the work of stage 03."""
    from lib.files import write_yaml
    from lib.sample import write
    from lib.stages.infer import InferOptions, infer
    from tests.builders import random_run

    data, before = write(folder / "data", **SIZES), folder / "before"
    random_run(before / "train", 0, SIZES["size"])
    write_yaml(before / "run.yaml", {"train": {"parameters": {}}})

    def work(run: Path, seed: int, overwrite: bool = False) -> None:
        infer(InferOptions(data=data, out=run, flip=bool(seed), overwrite=overwrite))

    work(before, 0)
    return before, work
