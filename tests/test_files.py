"""Whole files, YAML, digests."""

import errno
import os

import pytest

from lib.errors import InputError
from lib.files import digest, digest_of, digests, discarded, read_yaml, whole_file, write_yaml


def test_a_failed_write_leaves_nothing(tmp_path):
    target = tmp_path / "deep" / "result.txt"
    with pytest.raises(RuntimeError), whole_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert list(target.parent.iterdir()) == []
    with whole_file(target) as temporary:
        temporary.write_text("whole")
    assert [p.name for p in target.parent.iterdir()] == ["result.txt"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_a_disk_that_cannot_be_written_is_named_with_the_file(number, tmp_path):
    with pytest.raises(InputError, match=f"a.png: cannot be written .{os.strerror(number)}."):
        with whole_file(tmp_path / "a.png"):
            raise OSError(number, os.strerror(number))  # as of write(), which knows no name
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="b.png: cannot be written"), whole_file(tmp_path / "file" / "b.png"):
        pass
    with pytest.raises(ConnectionRefusedError), whole_file(tmp_path / "c.pth"):
        raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")  # of a download


def test_nothing_is_written_within_a_discarding_block(tmp_path):
    with discarded(), discarded():
        write_yaml(tmp_path / "deep" / "a.yaml", {})
    with discarded():
        write_yaml(tmp_path / "b.yaml", {})
    assert list(tmp_path.iterdir()) == []
    write_yaml(tmp_path / "c.yaml", {})
    assert (tmp_path / "c.yaml").exists()


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
