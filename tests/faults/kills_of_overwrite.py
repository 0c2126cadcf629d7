"""Kills at every file event of a replacement, then a resumption: the folder is never blocked, nothing is mixed."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.faults import stage_kills
from tests.faults.kills import events, killed
from tests.faults.record import Record

SIZES = dict(source=2, val=1, target=3, test=2, size=(96, 54))
Work = Callable[[Path, int, bool], object]
"""Work of a stage in a run folder: its arguments are the folder, a seed, and ``overwrite``."""


def run(record: Record, folder: Path, stage: str) -> None:
    """Kill the replacement of a stage's results at each of its file events; then continue it, or return to the former.

    A former run has results of seed 0; the replacement has seed 1.
    """
    stage_kills.import_all()
    shutil.rmtree(folder, ignore_errors=True)
    before, place, note = folder / "before", folder / "run", folder / "fingerprint.json"
    work = STAGES[stage](folder)
    events(partial(work, place, 0, False))
    place.rename(before)

    def outcome(seed: int) -> dict[str, str]:
        events(partial(work, place, seed, True))
        return stage_kills.forked_fingerprint(place, note)

    def reset() -> None:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(before, place)

    wanted = {}
    for seed in (0, 1):
        reset()
        wanted[seed] = outcome(seed)
    assert wanted[0] != wanted[1]
    reset()
    moments = range(1, events(partial(work, place, 1, True)) + 1)
    names = {f"event {at}, {word}": (at, seed) for at in moments for word, seed in (("continued", 1), ("former", 0))}
    for name in record.todo(names):
        reset()
        if not killed(partial(work, place, 1, True), names[name][0]):
            record.add(name, count=0)  # it had fewer events this time
            continue
        try:
            mixed = outcome(names[name][1]) != wanted[names[name][1]]
            record.add(name, "mixed" if mixed else "")
        except RuntimeError as error:
            record.add(name, f"blocked: {str(error).strip().splitlines()[-1]}")
    record.finish(names)


def _data(folder: Path) -> Path:
    from lib.sample import write

    events(lambda: write(folder / "data", **SIZES))
    return folder / "data"


def _augment(folder: Path) -> Work:
    from lib.stages.augment import AugmentOptions, augment

    data = _data(folder)

    def work(run: Path, seed: int, overwrite: bool) -> None:
        augment(AugmentOptions(data=data, out=run, augment=False, seed=seed, overwrite=overwrite))

    return work


def _train(folder: Path) -> Work:
    augmented, data = folder / "augmented", _data(folder)
    events(lambda: stage_kills.augment_stage(augmented, data))

    def work(run: Path, seed: int, overwrite: bool) -> None:
        if not run.exists():
            shutil.copytree(augmented, run)
        stage_kills.train_stage(run, data, seed=seed, max_iters=2, overwrite=overwrite)

    return work


def _infer(folder: Path) -> Work:
    from lib.files import write_yaml
    from lib.stages.infer import InferOptions, infer
    from tests.builders import random_run

    data, network = _data(folder), folder / "network"
    events(lambda: random_run(network, 0, SIZES["size"]))

    def work(run: Path, seed: int, overwrite: bool) -> None:
        if not run.exists():
            shutil.copytree(network, run / "train")
            write_yaml(run / "run.yaml", {"train": {"parameters": {}, "inputs": "", "results": {}}})
        infer(InferOptions(data=data, out=run, flip=bool(seed), overwrite=overwrite))

    return work


STAGES: dict[str, Callable[[Path], Work]] = {"augment": _augment, "train": _train, "infer": _infer}
"""Name of a stage to a function that prepares a folder and returns the stage's work."""
