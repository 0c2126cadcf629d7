"""Processes that are killed at a chosen file event: what ``kill -9`` or a power cut leaves behind."""

import itertools
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

_EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_ELSEWHERE = ("/dev/", "/proc/", "/sys/")


def events(work: Callable[[], object]) -> int:
    """Run ``work`` in a forked process; return its number of file events.

    A file event is a file opened for writing, a rename, a removal, or a folder made or removed by Python code. Files
    that a C library opens by itself are not seen; their renames are.
    """
    status, text = _forked(work, 0)
    if status:
        raise RuntimeError(f"the work failed undisturbed:\n{text}")
    return int(text)


def killed(work: Callable[[], object], at: int) -> bool:
    """Run ``work`` in a forked process that kills itself right before file event ``at`` (from 1).

    Returns whether it was killed; False where the work ended before.

    Raises:
        RuntimeError: the work failed by itself; carries its traceback.
    """
    status, text = _forked(work, at)
    if status == -signal.SIGKILL:
        return True
    if status:
        raise RuntimeError(f"the work failed before it was killed:\n{text}")
    return False


def killed_after(work: Callable[[], object], seconds: float) -> bool:
    """Run ``work`` in a forked process that dies after ``seconds``; return and raise as :func:`killed`."""
    status, text = _forked(work, 0, seconds)
    if status == -signal.SIGALRM:  # without a handler, as sudden as SIGKILL
        return True
    if status:
        raise RuntimeError(f"the work failed before it was killed:\n{text}")
    return False


def _forked(work: Callable[[], object], at: int, seconds: float = 0.0) -> tuple[int, str]:
    """Return the process's exit code (-N: signal N), and its number of events or its traceback."""
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiver)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        code, text = 1, ""
        try:
            count = _count_events(at)
            signal.setitimer(signal.ITIMER_REAL, seconds)  # 0: never
            work()
            code, text = 0, str(next(count) - 1)
        except BaseException:
            text = traceback.format_exc()
        os.write(sender, text[-4000:].encode())
        os._exit(code)
    os.close(sender)
    with os.fdopen(receiver, "rb") as pipe:
        text = pipe.read().decode(errors="replace")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text


def _count_events(at: int) -> itertools.count:
    """Kill this process before its event ``at``; 0: never. Returns the counter, which threads share."""
    count = itertools.count(1)

    def hook(event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            if not isinstance(path, str | bytes | Path) or not flags & _WRITES:
                return
            name = os.fsdecode(path)
            if name.startswith(_ELSEWHERE) or "__pycache__" in name:
                return
        elif event not in _EVENTS:
            return
        if next(count) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return count
