"""Files that appear whole or not at all, locks, and digests that tell whether a file changed."""

import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import yaml

from lib.errors import InputError

_DIGITS = 16
_LEFTOVER = re.compile(r"\..*\.(\d+)\.tmp(\..*)?")
# Two writes within the step of a file system's clock have one time: ext4's and XFS's steps, and those of full seconds.
_FINE_STEP_NS, _COARSE_STEP_NS = 20_000_000, 2_000_000_000


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, of the same suffix; it becomes ``path`` only if the block succeeds.

    The content is on the disk before the name is, so that a power cut leaves no empty file either.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A digest, because the name of a file may be as long as names can be.
    temporary = path.with_name(f".{digest_of(path.name)}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder and below."""
    for path in folder.rglob(".*.tmp*"):
        found = _LEFTOVER.fullmatch(path.name)
        if found and (int(found[1]) == os.getpid() or not _is_alive(int(found[1]))):
            path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``, which names its owner; the kernel frees it when the owner ends, however it ends.

    A missing folder is created, and removed again if it stays empty.

    Raises:
        InputError: another process holds the lock (names it), or the folder cannot be written.
    """
    missing = not path.parent.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _lock(path)
    except OSError as error:
        remedy = "Correct its permissions, or choose another output folder."
        raise InputError(f"{path.parent} cannot be written ({error.strerror}). {remedy}") from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()
        if missing:
            with suppress(OSError):  # it holds files
                path.parent.rmdir()


def _lock(path: Path) -> TextIO:
    import fcntl

    while True:
        file = path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read() or "another process"
            file.close()
            remedy = "Wait until it ends, or choose another output folder."
            raise InputError(f"{path.parent} is in use by {owner}. {remedy}") from None
        except OSError:
            pass  # this file system has no locks
        with suppress(FileNotFoundError):  # the former owner removed it in between
            if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                file.truncate(0)
                file.write(
                    f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
                )
                file.flush()
                return file
        file.close()


def write_yaml(path: str | Path, values: Mapping) -> None:
    """Write a mapping of plain values, in its order."""
    with whole_file(path) as temporary:
        temporary.write_text(yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True))


def read_yaml(path: str | Path) -> dict:
    """Read the mapping in ``path``; an empty one where there is no file."""
    path = Path(path)
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


def write_json(path: str | Path, values: Mapping) -> None:
    """Write a mapping of plain values."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(values, indent=0))


def read_json(path: str | Path) -> dict:
    """Read the mapping in ``path``; an empty one where there is no file."""
    path = Path(path)
    return json.loads(path.read_text()) if path.exists() else {}


def digest(path: str | Path) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]


def digest_of(values: object) -> str:
    """Return the digest of plain values (numbers, text, lists, mappings)."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def digests(paths: Iterable[str | Path], cache: Path) -> dict[Path, str]:
    """Return path and digest of each file that exists.

    The JSON file ``cache`` keeps them; a file of the same size, times and inode is not read again.
    """
    from lib.parallel import in_threads  # imports tqdm and numpy, which reading YAML does not need

    known, found, unread = read_json(cache), {}, []
    for path in filter(Path.exists, map(Path, paths)):
        state = _state(path)
        *before, value = known.get(str(path.absolute()), [None])
        if before == state:
            found[path] = value
        else:
            unread.append((path, state))
    if unread:
        settled = _wait_for_clock(max(state[2] for _, state in unread))
        values = in_threads(lambda entry: digest(entry[0]), unread, "digests")
        for (path, state), value in zip(unread, values, strict=True):
            found[path] = value
            if state[2] <= settled:
                known[str(path.absolute())] = [*state, value]
        write_json(cache, known)
    return found


def _state(path: Path) -> list[int]:
    """Return what a write changes. The time of change (ctime) also shows a write that set its own time back."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _wait_for_clock(newest: int) -> int:
    """Wait until a write has another time than ``newest``; return the newest time for which that is certain."""
    step = _FINE_STEP_NS if newest % 10**9 else _COARSE_STEP_NS
    # A time far in the future comes from another machine's clock, and is not waited for.
    time.sleep(min(max(0, newest + step - time.time_ns()), step) / 1e9)
    return time.time_ns() - step
