"""Check of a data set that is not repeated while no file changes."""

from collections.abc import Sequence
from pathlib import Path

import lib
from lib.dataset import layout
from lib.dataset.classes import CLASSES
from lib.errors import InputError
from lib.files import digest_of, read_json, write_json

_checked: dict[tuple[str, str], str] = {}
"""Reports of this process by set and state: the cache of a run folder may come later than the check."""


def check_once(folder: str | Path, splits: Sequence[str], cache: str | Path, classes: int = len(CLASSES)) -> str:
    """Return the text of :func:`lib.dataset.layout.check`, from the JSON file ``cache`` where no file has changed.

    A changed file has another size, time (of content or status) or inode. Of a set that was found sound, nothing but
    these is read.
    """
    key, known = f"{Path(folder).absolute()}: {', '.join(splits)}, {classes} classes", read_json(cache)
    state = _state(Path(folder), splits)
    if state and known.get(key, {}).get("state") == state:
        return known[key]["report"]
    if not state or (key, state) not in _checked:
        _checked[key, state] = str(layout.check(folder, splits, classes))
    report = _checked[key, state]
    write_json(cache, known | {key: {"state": state, "report": report}})
    return report


def _state(folder: Path, splits: Sequence[str]) -> str:
    """Return a digest of the states of all files; empty where tables or files are faulty."""
    files = [folder / f"{split}.csv" for split in splits]
    if "test" in splits:
        files.append(folder / layout.SAMPLE_SUBMISSION)
    try:
        items = [item for split in splits for item in layout.read_split(folder, split)]
        files += [file for item in items for file in (item.image, item.label) if file]
        states = [(str(f), s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for f in files for s in (f.stat(),)]
    except (InputError, OSError):
        return ""
    return digest_of([lib.__version__, states])
