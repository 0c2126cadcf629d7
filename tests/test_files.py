"""Whole files, YAML, digests."""

import os
import re
import socket
import time

import pytest

from lib.errors import InputError
from lib.files import digest, digest_of, digests, locked, read_yaml, sweep, whole_file, write_yaml
from tests.faults.kills import killed


def test_a_failed_write_leaves_nothing(tmp_path):
    target = tmp_path / "deep" / "result.txt"
    with pytest.raises(RuntimeError), whole_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert list(target.parent.iterdir()) == []
    with whole_file(target) as temporary:
        temporary.write_text("whole")
    assert [p.name for p in target.parent.iterdir()] == ["result.txt"]


def test_yaml_is_read_as_it_was_written(tmp_path):
    assert read_yaml(tmp_path / "none.yaml") == {}
    write_yaml(tmp_path / "some.yaml", {"b": [1, 2.5], "a": "ü"})
    assert list(read_yaml(tmp_path / "some.yaml").items()) == [("b", [1, 2.5]), ("a", "ü")]


def test_a_changed_file_has_another_digest_and_an_unchanged_one_is_not_read_again(tmp_path, monkeypatch):
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file in files:
        file.write_bytes(b"12345678")
    cache = tmp_path / "digests.json"
    before = digests([*files, tmp_path / "missing.png"], cache)
    assert before == dict.fromkeys(files, digest(files[0]))
    read = []
    monkeypatch.setattr("lib.files.digest", lambda path: read.append(path) or digest(path))
    assert digests(files, cache) == before and not read
    files[1].write_bytes(b"87654321")  # the same size
    os.utime(files[1], (0, 0))
    after = digests(files, cache)
    assert read == [files[1]] and after[files[0]] == before[files[0]] and after[files[1]] != before[files[1]]


def test_the_digest_of_values_does_not_depend_on_their_order():
    assert digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1}) != digest_of({"a": 1, "b": [3]})


@pytest.mark.parametrize("times", ["new", "kept"])
def test_a_write_right_after_a_digest_is_noticed(tmp_path, times):
    """The same size and inode, within the step of the clock; or with the time of before."""
    file, cache = tmp_path / "a.png", tmp_path / "digests.json"
    for number in range(5):
        file.write_text(f"{number:04}")
        status = file.stat()
        assert digests([file], cache)[file] == digest(file)
        with file.open("r+") as stream:
            stream.write(f"{number + 5000:04}")
        if times == "kept":
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert digests([file], cache)[file] == digest(file)


def test_a_file_from_the_future_is_read_each_time(tmp_path, monkeypatch):
    """On a file server whose clock is ahead, a second write may have the time of the first."""
    (tmp_path / "a.png").touch()
    ahead = time.time_ns() - 10**12
    monkeypatch.setattr("lib.files.time.time_ns", lambda: ahead)
    read = []
    monkeypatch.setattr("lib.files.digest", lambda path: read.append(path) or digest(path))
    for _ in range(2):
        digests([tmp_path / "a.png"], tmp_path / "digests.json")
    assert len(read) == 2


def test_many_unchanged_files_take_less_than_a_second(tmp_path):
    files = [tmp_path / f"{number}.png" for number in range(1000)]
    for file in files:
        file.touch()
    first = digests(files, tmp_path / "digests.json")
    start = time.perf_counter()
    assert digests(files, tmp_path / "digests.json") == first
    assert time.perf_counter() - start < 1


def test_content_is_on_the_disk_before_its_name(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr("os.fsync", lambda descriptor: order.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    monkeypatch.setattr("os.replace", lambda before, after: order.append("replace"))
    with whole_file(tmp_path / "a.txt") as temporary:
        temporary.touch()
    assert order == [str(temporary), "replace", str(tmp_path)]


def test_a_name_may_be_as_long_as_names_can_be(tmp_path):
    write_yaml(tmp_path / ("ü" * 125 + ".yaml"), {"a": 1})


def test_leftovers_of_killed_processes_are_swept(tmp_path):
    living = tmp_path / ".a.1.tmp.yaml"
    living.touch()
    (tmp_path / ".tmpfiles").touch()
    assert killed(lambda: write_yaml(tmp_path / "deep" / "b.yaml", {}), 3)
    assert list((tmp_path / "deep").iterdir())
    sweep(tmp_path)
    assert not list((tmp_path / "deep").iterdir()) and living.exists() and (tmp_path / ".tmpfiles").exists()


def test_a_lock_names_its_owner_and_is_free_afterwards(tmp_path):
    lock = tmp_path / "run" / ".stage.lock"
    with locked(lock):
        owner = f"process {os.getpid()} on {re.escape(socket.gethostname())} since {time.strftime('%Y-')}"
        with pytest.raises(InputError, match=f"run is in use by {owner}.*Wait until it ends"), locked(lock):
            pass
        assert lock.exists()
    assert not lock.parent.exists()
    with locked(lock):
        (lock.parent / "result").touch()
    assert [path.name for path in lock.parent.iterdir()] == ["result"]


def test_a_dead_owners_lock_is_taken_over(tmp_path):
    lock = tmp_path / ".stage.lock"

    def work():
        with locked(lock):
            (tmp_path / "result").touch()
            (tmp_path / "event").mkdir()

    assert killed(work, 4)
    assert lock.exists() and (tmp_path / "result").exists() and not (tmp_path / "event").exists()
    with locked(lock):
        assert str(os.getpid()) in lock.read_text()


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match=r"file cannot be written .File exists..*permissions"),
        locked(tmp_path / "file" / ".stage.lock"),
    ):
        pass
