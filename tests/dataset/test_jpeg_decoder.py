"""Damage inside JPEG files, named although libjpeg names no file."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lib.dataset.jpeg_decoder import JpegDecoder
from tests.faults.image_builder import photo, saved

WHOLE = saved(photo(0, 320, 240), "JPEG", quality=90)
SCAN = WHOLE.index(b"\xff\xda") + 14


@pytest.fixture(scope="module")
def decoder():
    with JpegDecoder(1) as decoder:
        yield decoder


def test_each_warning_belongs_to_its_file(tmp_path):
    paths = [tmp_path / f"bild ü\n{i}.jpg" for i in range(40)]
    for i, path in enumerate(paths):
        path.write_bytes(WHOLE[: SCAN + 500] + b"\xff\xd9" if i % 7 == 3 else WHOLE)
    with JpegDecoder(1000) as decoder, ThreadPoolExecutor(4) as pool:
        said = list(pool.map(decoder.damage, paths))
    assert [bool(text) for text in said] == [i % 7 == 3 for i in range(40)]
    assert "premature end" in said[3]


def test_a_crash_is_a_fault_of_one_file(tmp_path, decoder):
    (tmp_path / "a.jpg").write_bytes(WHOLE)
    assert decoder.damage(tmp_path / "a.jpg") == ""
    for child in decoder._children:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert "crashes" in decoder.damage(tmp_path / "a.jpg")
    assert decoder.damage(tmp_path / "a.jpg") == ""


def test_nothing_is_started_without_jpegs_and_nothing_left(tmp_path):
    with JpegDecoder(100) as decoder:
        assert not decoder._children
        (tmp_path / "a.jpg").write_bytes(WHOLE)
        decoder.damage(tmp_path / "a.jpg")
    assert all(child.poll() is not None for child in decoder._children)


def test_most_damage_that_shows_is_noticed(tmp_path, decoder):
    """Runs of bytes lost to zeros, to another file, or cut out; a few still decode without a warning."""
    rng, found, path = np.random.default_rng(0), 0, tmp_path / "a.jpg"
    for _ in range(30):
        start, length = int(rng.integers(SCAN, len(WHOLE) - 400)), int(rng.integers(100, 400))
        other = (bytes(length), rng.bytes(length), b"")[int(rng.integers(3))]
        path.write_bytes(WHOLE[:start] + other + WHOLE[start + length :])
        found += bool(decoder.damage(path))
    assert found >= 21
