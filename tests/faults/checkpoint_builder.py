"""A run with checkpoints to damage, and the check that no code of a file was run."""

import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from lib.run import Run
from tests.builders import training_run
from tests.faults.outcome import refused


@cache
def _template() -> Path:
    folder = Path(mkdtemp())
    training_run(folder, 1, 2)
    return folder


def stopped_run(folder: Path) -> Run:
    """Return a run in ``folder`` whose training stopped after iterations 1 and 2."""
    shutil.copytree(_template(), folder, dirs_exist_ok=True)
    return Run(folder)


class Attack:
    """Creates the file ``victim`` when unpickled."""

    def __init__(self, folder: Path):
        self.victim = folder / "victim"

    def __reduce__(self):
        return os.system, (f"touch {self.victim}",)


def refused_unrun(work: Callable, folder: Path, naming: str) -> None:
    """Call ``work``, which has to refuse a file without running its code; that code creates ``folder / "victim"``."""
    refused(work, naming=naming)
    assert not (folder / "victim").exists(), "code of the file was run"
