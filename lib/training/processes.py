"""Processes of a training: they end with the one that started them, and one that stalls ends the training."""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

STOPPED_S = 30
"""Seconds after which a process that a signal stopped ends the training."""
IDLE_S = 45
"""Seconds after which a training ends in which no process computes, reads or writes."""

_INTERVAL_S = 5
_IDLE_SHARE = 0.01  # of a core, which waiting processes use to look again
_BUSY = {"R", "D"}  # states of a thread: runs or could run, waits for a disk
_TICKS = os.sysconf("SC_CLK_TCK")


def die_with_parent() -> None:
    """Linux: end this process when the one that started it is gone, however that ended."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


@contextmanager
def watched(root: int) -> Iterator[list[str]]:
    """Linux: kill process ``root`` and its descendants when one of them stalls; the yielded list then has the reason.

    Slow work is no stall: a thread that runs, or waits for a disk, counts as busy.
    """
    reasons: list[str] = []
    end = threading.Event()

    def watch() -> None:
        state = _State(root)
        while not end.wait(_INTERVAL_S):
            if reason := state.look():
                reasons.append(reason)
                for pid in descendants(root):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                return

    thread = threading.Thread(target=watch, daemon=True)
    if sys.platform == "linux":
        thread.start()
    try:
        yield reasons
    finally:
        end.set()
        if thread.ident:
            thread.join()


@dataclass
class _State:
    """State of the processes at the last look."""

    root: int
    seconds: dict[int, float] = field(default_factory=dict)  # of CPU time, by process
    stopped: dict[int, int] = field(default_factory=dict)  # looks in a row that found a process stopped
    idle: int = 0  # looks in a row that found all processes idle

    def look(self) -> str:
        """Return the reason why the training stalled, "" while it works."""
        found = {pid: _process(pid) for pid in descendants(self.root)}
        known = {pid: process for pid, process in found.items() if process}
        self.stopped = {pid: self.stopped.get(pid, 0) + 1 for pid, (states, _) in known.items() if states == {"T"}}
        used = sum(seconds - self.seconds.get(pid, 0.0) for pid, (_, seconds) in known.items())
        busy = any(states & _BUSY for states, _ in known.values())
        self.seconds = {pid: seconds for pid, (_, seconds) in known.items()}
        self.idle = 0 if busy or used > _IDLE_SHARE * _INTERVAL_S else self.idle + 1
        for pid, looks in self.stopped.items():
            if looks * _INTERVAL_S > STOPPED_S:
                return f"process {pid} was stopped by a signal for {STOPPED_S} seconds"
        if self.idle * _INTERVAL_S > IDLE_S:
            return f"its processes did nothing for {IDLE_S} seconds"
        return ""


def descendants(root: int) -> list[int]:
    """Return the process and all that it started, directly or not."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            children.setdefault(int(_fields(path)[1]), []).append(int(path.parent.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _process(pid: int) -> tuple[set[str], float] | None:
    """Return the states of a process's threads, and its CPU time in seconds; None if it is gone."""
    folder = Path("/proc", str(pid))
    try:
        fields = _fields(folder / "stat")
        states = {_fields(path)[0] for path in folder.glob("task/*/stat")}
    except OSError:
        return None
    return states, (int(fields[11]) + int(fields[12])) / _TICKS


def _fields(path: Path) -> list[str]:
    """Return the fields after the process's name, which may hold spaces."""
    return path.read_text().rpartition(")")[2].split()
