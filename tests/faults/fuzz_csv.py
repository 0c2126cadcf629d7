"""Random submissions and tables of a data set: read as any CSV reader reads them, or refused."""

import csv
import io
import random
import shutil
from contextlib import redirect_stderr
from functools import cache
from pathlib import Path

from lib.dataset import image_files, layout
from lib.errors import InputError
from lib.submission.table import check_submission
from tests.faults import mutate_submission
from tests.faults.mutate_submission import IDS, SIZE, Sound

_PIECES = (
    *(b",", b";", b"\t", b'"', b'""', b"'", b"\n", b"\r", b"\r\n", b"\n\n", b" ", b"\0", b"\xef\xbb\xbf", b"\xff\xfe"),
    *(b"\xa0", b"\xc2\xa0", b"\x1a", b"\xed\xa0\x80", b"\\", b"#", b"0", b"1", b"-", b"-1", b"NaN", b"id", b"mask_rle"),
    *(b"TEST_0007", b"_class_0", b"\xd9\xa1", b"\xe2\x80\x8b", b"=", b".", b"e", b"/", b"../"),
)


@cache
def _sound() -> Sound:
    return mutate_submission.sound()


def one(seed: int, folder: Path) -> bool:
    """Read one random table; return whether it was accepted. The folder may hold the files of an earlier call."""
    draw = random.Random(seed)
    if not (folder / "masks").is_dir():
        _write(folder)
    path = folder / ("submission.csv" if draw.random() < 0.6 else "test.csv")
    data = _bytes(path.name)
    for _ in range(draw.choice((0, 1, 1, 1, 2, 4))):
        data = _mutate(draw, data)
    if path.name == "submission.csv":
        path.write_bytes(data)
        return _check(path, folder, data)
    copy = folder / "tables"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    (copy / path.name).write_bytes(data)
    return _read(copy, data)


def _write(folder: Path) -> None:
    for image_id, mask in _sound().masks.items():
        image_files.write_png(folder / "masks" / f"{image_id}.png", mask)
    (folder / "test.csv").write_bytes(_bytes("test.csv"))
    layout.write_sample(folder, IDS)


def _bytes(name: str) -> bytes:
    if name == "submission.csv":
        return mutate_submission.csv(_sound().rows).encode()
    return "\n".join(["id,img_path", *(f"{i},test_image/{i}.png" for i in IDS), ""]).encode()


def _mutate(draw: random.Random, data: bytes) -> bytes:
    at, to = sorted((draw.randint(0, len(data)), draw.randint(0, len(data))))
    if draw.random() < 0.6:
        to = min(to, at + draw.randint(0, 8))
    kind, piece = draw.randrange(9), draw.choice(_PIECES)
    if kind == 0:
        return data[:at] + piece + data[at:]
    if kind == 1:
        return data[:at] + piece + data[to:]
    if kind == 2:
        return data[:at] + data[to:]
    if kind == 3:
        return data[:to] + data[at:]
    if kind == 4:
        return data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :]
    if kind == 5:
        return data.replace(draw.choice((b",", b"\n", b" ", b"_", b"-1", b"id")), piece, draw.choice((1, -1)))
    lines = data.split(b"\n")
    place = draw.randrange(len(lines))
    if kind == 6:
        lines[place] = draw.choice((piece + lines[place], lines[place] + piece, b'"' + lines[place] + b'"'))
    elif kind == 7:
        lines.insert(draw.randrange(len(lines)), lines.pop(place))
    else:
        lines[place] = b",".join(b'"' + cell + b'"' for cell in lines[place].split(b","))
    return draw.choice((b"\n", b"\n", b"\r\n", b"\r")).join(lines)


def _check(path: Path, folder: Path, data: bytes) -> bool:
    """Check a submission; an accepted one has the sound one's cells, but for runs that were cut in two."""
    try:
        with redirect_stderr(io.StringIO()):  # a progress bar per check
            check_submission(path, folder / "masks", folder, SIZE)
    except InputError as error:
        _assert_plain(error)
        return False
    header, *rows = _cells(data)
    assert header == ["id", "mask_rle"], header
    assert [row[0] for row in rows] == [row[0] for row in _sound().rows], "other ids"
    for (row, found), (_, expected) in zip(rows, _sound().rows, strict=True):
        assert _pixels(found) == _pixels(expected), f"{row}: {found!r}"
    return True


def _pixels(text: str) -> set[int]:
    assert text.isascii() and not set(text) - set("0123456789 -"), text
    numbers = [int(word) for word in text.split(" ")]
    if numbers == [-1]:
        return set()
    return {
        pixel
        for start, length in zip(numbers[::2], numbers[1::2], strict=True)
        for pixel in range(start, start + length)
    }


def _read(folder: Path, data: bytes) -> bool:
    """Read a split; an accepted one has the ids and files that another reader finds."""
    try:
        items = layout.read_split(folder, "test")
    except InputError as error:
        _assert_plain(error)
        return False
    header, *rows = _cells(data)
    expected = [(row[header.index("id")], folder / row[header.index("img_path")]) for row in rows]
    assert [(item.id, item.image) for item in items] == expected
    for image_id, _ in expected:
        assert image_id and Path(image_id).name == image_id
    return True


def _cells(data: bytes) -> list[list[str]]:
    """Read a CSV with Python's reader; blank lines do not count, and missing cells are blank."""
    csv.field_size_limit(2**31 - 1)
    rows = [
        row
        for row in csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""))
        if "".join(row).strip() or len(row) > 1
    ]
    assert max(map(len, rows)) == len(rows[0]), "more cells than the header has"
    return [row + [""] * (len(rows[0]) - len(row)) for row in rows]


def _assert_plain(error: InputError) -> None:
    message = str(error)
    assert "Traceback" not in message and "Error(" not in message, message
    assert len(message) < 6000 and all(len(line) < 600 for line in message.splitlines()), message
