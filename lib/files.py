"""Files that appear whole or not at all, and digests that tell whether a file changed."""

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml

from lib.errors import Fault, InputError

_DIGITS = 16
_OF_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENAMETOOLONG}
_OF_DISK |= {errno.ENOTDIR, errno.EISDIR, errno.EEXIST}
"""Faults of the disk, of rights and of paths; network errors are others."""

_discarding = False


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, of the same suffix; it becomes ``path`` only if the block succeeds."""
    path = Path(path)
    if _discarding:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / path.name
        return
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.errno not in _OF_DISK:
            raise
        found, remedy = f"cannot be written ({os.strerror(error.errno)})", "Free the disk, or allow writing there."
        raise InputError(Fault(path, found, remedy)) from None


@contextmanager
def discarded() -> Iterator[None]:
    """Within the block, :func:`whole_file` drops what it gets: nothing is written."""
    global _discarding
    before, _discarding = _discarding, True
    try:
        yield
    finally:
        _discarding = before


def discarding() -> bool:
    """Return whether this is such a block."""
    return _discarding


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

    The JSON file ``cache`` keeps them; a file of the same size, time and inode is not read again.
    """
    from lib.parallel import in_threads  # imports tqdm and numpy, which reading YAML does not need

    known, found, unread = read_json(cache), {}, []
    for path in filter(Path.exists, map(Path, paths)):
        status = path.stat()
        state = [status.st_size, status.st_mtime_ns, status.st_ino]
        *before, value = known.get(str(path.absolute()), [None])
        if before == state:
            found[path] = value
        else:
            unread.append((path, state))
    if unread:
        values = in_threads(lambda entry: digest(entry[0]), unread, "digests")
        for (path, state), value in zip(unread, values, strict=True):
            found[path] = value
            known[str(path.absolute())] = [*state, value]
        write_json(cache, known)
    return found
