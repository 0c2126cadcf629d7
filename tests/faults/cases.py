"""Cases of a topic by name."""

from collections.abc import Callable
from pathlib import Path

Case = Callable[[Path], None]


class Cases(dict[str, Case]):
    """Cases by name, each a function of an empty folder."""

    def register(self, name: str) -> Callable[[Case], Case]:
        """Return a decorator that adds a case, whose name has to be new."""

        def add(case: Case) -> Case:
            assert name not in self, name
            self[name] = case
            return case

        return add
