"""Bad inputs, changed inputs, and random ones, from the modules of this folder that hold them."""

import importlib
import shutil
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.faults.record import Record

CHANGES = "changes"
"""Topic of the cases about changed inputs, which have a row of their own."""
_SEEDS = 50
_HERE = Path(__file__).parent


def cases(changes: bool) -> dict[str, Callable[[Path], None]]:
    """Return the cases about changed inputs, or all others, by topic and name."""
    found = {}
    for path in sorted(set(_HERE.glob("*_cases.py")) - set(_HERE.glob("test_*.py"))):
        topic = path.stem.removesuffix("_cases")
        if (topic == CHANGES) == changes:
            module = importlib.import_module(f"tests.faults.{path.stem}")
            found |= {f"{topic}: {name}": case for name, case in module.CASES.items()}
    return found


def fuzzers() -> list[str]:
    """Return the topics of the fuzzers."""
    return [path.stem.removeprefix("fuzz_") for path in sorted(_HERE.glob("fuzz_*.py"))]


def run_cases(record: Record, folder: Path, changes: bool = False) -> None:
    """Feed each bad input to the product."""
    found = cases(changes)
    for name in record.todo(found):
        record.add(name, _fault(found[name], _empty(folder)))
    record.finish(found)


def run_fuzzer(record: Record, folder: Path, topic: str, seconds: float) -> None:
    """Feed random inputs to the product for ``seconds`` in all; a seed that fails is kept."""
    module = importlib.import_module(f"tests.faults.fuzz_{topic}")
    first = 0
    while time.time() < record.until and sum(item["seconds"] for item in record.items.values()) < seconds:
        name, begin, accepted, faults = f"seeds {first}-{first + _SEEDS - 1}", time.time(), 0, {}
        first += _SEEDS
        if name in record.items:
            continue
        for seed in range(first - _SEEDS, first):

            def work(place: Path, seed: int = seed) -> None:
                nonlocal accepted
                accepted += bool(module.one(seed, place))

            if fault := _fault(work, _empty(folder)):
                faults[seed] = fault
        text = "; ".join(f"seed {seed}: {fault}" for seed, fault in faults.items())
        record.add(name, text, _SEEDS, accepted=accepted, seconds=time.time() - begin)
    if sum(item["seconds"] for item in record.items.values()) >= seconds:
        record.finish()


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _fault(work: Callable[[Path], object], folder: Path) -> str:
    try:
        work(folder)
    except Exception as error:  # crashes are what is looked for
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:300]} ({Path(place.filename).name}:{place.lineno})"
    return ""
