"""The hook that kills a process at a file event."""

import pytest

from lib.files import write_yaml
from tests.faults.kills import events, killed


def test_a_process_dies_right_before_the_event(tmp_path):
    def work():
        for name in ("a", "b"):
            write_yaml(tmp_path / name, {name: 1})

    assert events(work) >= 4  # each file is opened and renamed
    for path in tmp_path.iterdir():
        path.unlink()
    left = []
    for at in range(1, events(work) + 1):
        for path in tmp_path.iterdir():
            path.unlink()
        assert killed(work, at)
        left.append(sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")))
    assert left[0] == [] and left[-1] in (["a"], ["a", "b"])
    assert not killed(work, 1000)


def test_work_that_fails_by_itself_is_said():
    def work():
        raise ZeroDivisionError

    for outcome in (lambda: events(work), lambda: killed(work, 1)):
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            outcome()
