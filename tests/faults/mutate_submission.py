"""Builders of mutated submissions: a sound small one, and changes of its bytes, rows, runs and pixels."""

import io
import random
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from lib.dataset.classes import BACKGROUND, CAR, CLASSES, IGNORE, PERSON, ROAD
from lib.submission.run_length import encode_mask

SIZE = (16, 12)  # width, height
IDS = ("TEST_0007", "TEST_0010", "TEST_0123")
K = len(CLASSES)
Rows = list[list[str]]


@dataclass(frozen=True)
class Sound:
    """Masks of all classes, and the rows of their submission; the second lacks Person and the third Car."""

    masks: dict[str, np.ndarray]
    rows: Rows


def sound() -> Sound:
    """Draw masks of 2×2 blocks, so that a class has several runs in a mask."""
    rng, masks = np.random.default_rng(3), {}
    for image_id in IDS:
        values = np.resize([*range(len(CLASSES)), BACKGROUND, IGNORE], 48)
        if image_id != IDS[0]:
            values[values == (CAR if image_id == IDS[-1] else PERSON)] = ROAD
        masks[image_id] = np.kron(rng.permutation(values).reshape(6, 8), np.ones((2, 2))).astype(np.uint8)
    return Sound(masks, encode(masks))


def encode(masks: dict[str, np.ndarray]) -> Rows:
    return [[f"{i}_class_{c}", encode_mask(mask == c)] for i, mask in masks.items() for c in range(len(CLASSES))]


def csv(rows: Rows, header: str = "id,mask_rle", separator: str = ",", end: str = "\n") -> str:
    return end.join([header, *(separator.join(row) for row in rows)]) + end


# A mutation takes the sound submission and returns the bytes of a file. The builders make one of a smaller change.

Mutation = Callable[[Sound], bytes]
FIRST = ROAD  # the row that is changed: Road in the first mask
ABSENT = len(IDS) * len(CLASSES) - len(CLASSES) + CAR  # a row with -1


def of_bytes(change: Callable[[bytes], bytes]) -> Mutation:
    return lambda given: change(csv(given.rows).encode())


def of_text(change: Callable[[str], str]) -> Mutation:
    return lambda given: change(csv(given.rows)).encode()


def of_rows(change: Callable[[Rows], Rows]) -> Mutation:
    return lambda given: csv(change([list(row) for row in given.rows])).encode()


def of_ids(change: Callable[[str], str], every: bool = False) -> Mutation:
    """Change the id of the first row, or of every row."""
    return of_rows(lambda rows: [[change(i) if every or n == 0 else i, text] for n, (i, text) in enumerate(rows)])


def of_cell(change: Callable[[str], str], row: int = FIRST) -> Mutation:
    return of_rows(lambda rows: [[i, change(text) if n == row else text] for n, (i, text) in enumerate(rows)])


def of_absent(text: str) -> Mutation:
    return of_cell(lambda _: text, ABSENT)


def of_present(text: str) -> Mutation:
    return of_cell(lambda _: text)


def of_runs(change: Callable[[list[int]], list[int]], every: bool = False) -> Mutation:
    """Change the numbers of the first row, or of every row."""

    def changed(text: str) -> str:
        return text if text == "-1" else " ".join(map(str, change([int(word) for word in text.split()])))

    if every:
        return of_rows(lambda rows: [[i, changed(text)] for i, text in rows])
    return of_cell(changed)


def of_starts(change: Callable[[int], int]) -> Mutation:
    return of_runs(lambda numbers: [n if at % 2 else change(n) for at, n in enumerate(numbers)], every=True)


def of_masks(change: Callable[[np.ndarray], np.ndarray]) -> Mutation:
    """Change every mask of class ids."""
    return lambda given: csv(encode({i: change(mask.copy()) for i, mask in given.masks.items()})).encode()


def of_class(change: Callable[[np.ndarray], np.ndarray]) -> Mutation:
    """Change the binary mask of the first row, of values 0 and 1."""

    def mutate(given: Sound) -> bytes:
        road = (given.masks[IDS[0]] == FIRST).astype(np.uint8)
        return of_present(encode_mask(change(road.copy()) > 0))(given)

    return mutate


def assigned(where, value: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[where] = value
        return array

    return change


def renamed(old: int, new: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda mask: np.where(mask == old, new, mask).astype(np.uint8)


def exchanged(rows: Rows, one: int, two: int, cell: int | None = None) -> Rows:
    """Exchange two rows, or one of their cells."""
    if cell is None:
        rows[one], rows[two] = rows[two], rows[one]
    else:
        rows[one][cell], rows[two][cell] = rows[two][cell], rows[one][cell]
    return rows


def by_class(rows: Rows) -> Rows:
    return [row for c in range(len(CLASSES)) for row in rows[c :: len(CLASSES)]]


def shuffled(rows: Rows) -> Rows:
    return random.Random(0).sample(rows, len(rows))


def zipped(data: bytes) -> bytes:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
        archive.writestr("submission.csv", data)
    return buffer.getvalue()


def flipped_bit(data: bytes) -> bytes:
    at = data.index(b" ", len(data) // 2) + 1  # of a number
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def largest_part(mask: np.ndarray) -> np.ndarray:
    _, parts, statistics, _ = cv2.connectedComponentsWithStats(mask)
    return parts == 1 + statistics[1:, cv2.CC_STAT_AREA].argmax()


def resized(size: tuple[int, int], how: int = cv2.INTER_NEAREST) -> Callable[[np.ndarray], np.ndarray]:
    return lambda mask: cv2.resize(mask, size, interpolation=how)


def long_form(rows: Rows) -> Rows:
    """Give each run a row of its own."""
    return [[i, f"{a} {b}"] for i, text in rows for a, b in zip(text.split()[::2], text.split()[1::2], strict=False)]


def wide_form(given: Sound) -> bytes:
    header = ",".join(["id", *(f"class_{c}" for c in range(len(CLASSES)))])
    cells = [text for _, text in given.rows]
    lines = [",".join([i, *cells[n * 12 : n * 12 + 12]]) for n, i in enumerate(IDS)]
    return "\n".join([header, *lines, ""]).encode()


def one_line(line: int, change: Callable[[str], str]) -> Mutation:
    """Change one line of the file; 0 is the header."""

    def mutate(text: str) -> str:
        lines = text.splitlines()
        lines[line] = change(lines[line])
        return "\n".join([*lines, ""])

    return of_text(mutate)


def each_line(change: Callable[[str], str], header: bool = False) -> Mutation:
    def mutate(text: str) -> str:
        first, *lines = text.splitlines()
        return "\n".join([change(first) if header else first, *map(change, lines), ""])

    return of_text(mutate)
