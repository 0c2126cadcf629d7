"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml


@contextmanager
def whole_file(path: str | Path):
    """Yield a temporary path beside ``path`` (same suffix) that becomes ``path`` only if the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_yaml(path: str | Path, values: dict) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def read_yaml(path: str | Path) -> dict:
    """The mapping in ``path``; an empty one where there is no file."""
    path = Path(path)
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}
