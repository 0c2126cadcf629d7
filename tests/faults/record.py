"""Outcomes of a part's items, kept in a file, so that an interrupted part continues."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from lib.files import read_json, write_json


class Record:
    """Outcome of each item of a part, written at once.

    Args:
        path: JSON file, from item to its outcome.
        until: time (seconds since 1970) after which no item is begun.
        stamp: digest of the tested sources; outcomes of others are forgotten.
    """

    def __init__(self, path: Path, until: float = float("inf"), stamp: str = ""):
        self.path, self.until, self.stamp = path, until, stamp
        content = read_json(path)
        fresh = content.get("stamp") != stamp
        self.items: dict[str, dict] = {} if fresh else content["items"]
        self.finished: bool = not fresh and content["finished"]

    def todo(self, names: Iterable[str]) -> Iterator[str]:
        """Yield the names without an outcome until the time is over."""
        for name in names:
            if name in self.items:
                continue
            if time.time() >= self.until:
                return
            yield name

    def add(self, name: str, fault: str = "", count: int = 1, **more: object) -> None:
        """Keep an item's outcome: its ``fault`` in words, or none, and the ``count`` of cases that it stands for."""
        self.items[name] = {"fault": fault, "count": count} | more
        self._write()

    def finish(self, names: Iterable[str] = ()) -> None:
        """Note that all items are done, if all of ``names`` have an outcome."""
        self.finished = all(name in self.items for name in names)
        self._write()

    @property
    def count(self) -> int:
        """Number of cases so far."""
        return sum(item["count"] for item in self.items.values())

    def faults(self) -> dict[str, str]:
        """Return the items with a fault."""
        return {name: item["fault"] for name, item in self.items.items() if item["fault"]}

    def _write(self) -> None:
        write_json(self.path, {"stamp": self.stamp, "finished": self.finished, "items": self.items})
