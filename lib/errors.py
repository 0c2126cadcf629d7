"""Errors that name what the user can change: one sentence each, or a list of faults."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

_SHOWN = 5  # faults of one kind that a report spells out


class InputError(ValueError):
    """Fault in the user's input; the message is one sentence and says what to do.

    Notebooks and the command line show the message alone, without a traceback.
    """

    def _render_traceback_(self):  # IPython's hook for exceptions that show themselves
        return [f"{type(self).__name__}: {self}"]


@dataclass(frozen=True)
class Fault:
    """Fault of one file; ``InputError(fault)`` states it, and carries it as its only argument."""

    path: str | Path
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}: {self.found}. {self.remedy}"


def raise_faults(folder: str | Path, faults: Sequence[Fault]) -> None:
    """Raise all ``faults`` as one InputError, paths relative to ``folder``; do nothing where there are none."""
    if not faults:
        return
    kinds: dict[str, list[Fault]] = {}
    for fault in faults:
        if Path(fault.path).is_relative_to(folder):
            fault = replace(fault, path=Path(fault.path).relative_to(folder))
        kinds.setdefault(fault.remedy, []).append(fault)
    lines = [f"{folder}: {len(faults)} fault{'s' if len(faults) > 1 else ''}"]
    for alike in kinds.values():
        lines += map(str, alike[:_SHOWN])
        if len(alike) > _SHOWN:
            lines.append(f"… and {len(alike) - _SHOWN} more of this kind.")
    raise InputError("\n  ".join(lines))


def shortened(text: str, most: int = 60) -> str:
    """Return a text from a file as messages repeat it: cut after ``most`` characters, control characters escaped."""
    return repr(text[:most])[1:-1] + ("…" if len(text) > most else "")


def attempt(faults: list[Fault], work: Callable, *arguments):
    """Return the result of ``work``; None if it raises an InputError of one fault, which is added to ``faults``."""
    try:
        return work(*arguments)
    except InputError as error:
        faults.append(error.args[0])


def check_all(checks: Iterable[Callable[[], Any]]) -> None:
    """Call all checks, and raise what they found as one InputError: the only message, or a list."""
    found = []
    for check in checks:
        try:
            check()
        except InputError as error:
            found.append(str(error))
    found = list(dict.fromkeys(found))
    if found:
        raise InputError("\n".join(found if len(found) == 1 else [f"{len(found)} faults, before any work:", *found]))
