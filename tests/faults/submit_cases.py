"""Bad inputs of stage 04, which writes a submission; each in an empty folder."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from lib.dataset import layout
from lib.dataset.classes import BACKGROUND, CLASSES, IGNORE, ROAD
from lib.submission.run_length import encode_mask
from tests.faults.mutate_submission import sound
from tests.faults.outcome import refused
from tests.faults.submission_world import (
    COLOUR,
    FIRST,
    IDS,
    PLAIN,
    SAMPLE,
    SIZE,
    TESTS,
    Change,
    coded,
    every_image,
    every_mask,
    folder_in_place,
    holding,
    lines,
    link_to_nowhere,
    mask,
    moved,
    nothing,
    stage,
    without,
    world,
)


def stage_refuses(naming: str, change: Change, folder: Path, **options) -> None:
    """Refuse a submission, and keep an earlier one as it was."""
    world(folder)
    before = stage(folder).read_bytes()
    change(folder)
    refused(partial(stage, **options), folder, naming=naming)
    if (folder / "run" / "submission.csv").is_file():
        assert (folder / "run" / "submission.csv").read_bytes() == before, "the earlier submission was changed"
    assert not list(folder.rglob("*.tmp*")), "half a file is left"


def stage_writes(change: Change, expected: Callable[[np.ndarray], np.ndarray], folder: Path, **options) -> None:
    """Write the submission of masks that ``expected`` derives from the sound ones."""
    world(folder)
    change(folder)
    table = pd.read_csv(stage(folder, **options), dtype=str)
    size, wanted = tuple(options.get("submission_size", SIZE)), []
    for array in sound().masks.values():
        array = cv2.resize(expected(array), size, interpolation=cv2.INTER_NEAREST_EXACT)
        wanted += [encode_mask(array == c) for c in range(len(CLASSES))]
    assert table["mask_rle"].tolist() == wanted


def same(array: np.ndarray) -> np.ndarray:
    return array


STAGE_REFUSES: dict[str, tuple[str, Change]] = {
    "no masks folder": ("masks", without("run/masks")),
    "masks folder is a file": ("masks", lambda f: (without("run/masks")(f), (f / "run/masks").touch())),
    "empty masks folder": (FIRST, folder_in_place("run/masks")),
    "a mask is missing": (FIRST, without(f"run/masks/{FIRST}")),
    "a mask of no image": ("VAL_0000.png", mask(PLAIN, "run/masks/VAL_0000.png")),
    "masks of another data set": ("VAL_0000.png", moved(f"run/masks/{FIRST}", "run/masks/VAL_0000.png")),
    "a mask of another size": (f"{FIRST}: 8×6", mask(PLAIN[:6, :8])),
    "a mask of the submission's size among others": (f"{FIRST}: 8×6", mask(PLAIN[::2, ::2])),
    "a mask of exchanged sides": (f"{FIRST}: 12×16", mask(PLAIN.T.copy())),
    "all masks of another size": (f"{FIRST}: 8×6", every_mask(lambda m: m[::2, ::2])),
    "a mask one row short": (f"{FIRST}: 16×11", mask(PLAIN[:-1])),
    "a JPEG named PNG": (FIRST, coded(".jpg", PLAIN)),
    "a WebP named PNG": (FIRST, coded(".webp", COLOUR)),
    "a mask as .jpg": ("TEST_0000.jpg", moved(f"run/masks/{FIRST}", "run/masks/TEST_0000.jpg")),
    "a mask as .jpg beside its PNG": ("TEST_0000.jpg", coded(".jpg", PLAIN, "run/masks/TEST_0000.jpg")),
    "a mask as .PNG": ("TEST_0000.PNG", moved(f"run/masks/{FIRST}", "run/masks/TEST_0000.PNG")),
    "a mask as .npy": ("TEST_0000.npy", holding("run/masks/TEST_0000.npy", b"\x93NUMPY")),
    "a mask as .tif": ("TEST_0000.tif", moved(f"run/masks/{FIRST}", "run/masks/TEST_0000.tif")),
    "an empty mask file": (FIRST, holding(f"run/masks/{FIRST}", b"")),
    "a mask of text": (FIRST, holding(f"run/masks/{FIRST}", b"not an image")),
    "a truncated mask": (FIRST, holding(f"run/masks/{FIRST}", lambda data: data[:-20])),
    "a mask with a changed byte": (FIRST, holding(f"run/masks/{FIRST}", lambda d: d[:45] + b"\xff" + d[46:])),
    "a mask of NUL bytes": (FIRST, holding(f"run/masks/{FIRST}", lambda data: bytes(len(data)))),
    "a mask in colour": (FIRST, mask(COLOUR)),
    "a mask with an alpha channel": (FIRST, coded(".png", np.dstack([COLOUR, PLAIN]))),
    "a mask of 16-bit values": (f"{FIRST}: label value 3000", coded(".png", PLAIN.astype(np.uint16) * 375)),
    "class 13 in a mask": (f"{FIRST}: label value 13", mask(np.full_like(PLAIN, 13))),
    "class 254 in a mask": (f"{FIRST}: label value 254", mask(np.full_like(PLAIN, 254))),
    "classes times 20 in a mask": (f"{FIRST}: label value 160", mask(PLAIN * 20)),
    "a folder named as a mask": (FIRST, folder_in_place(f"run/masks/{FIRST}")),
    "a mask that is a broken link": (FIRST, link_to_nowhere),
    "a test image is missing": (FIRST, without(f"set/{FIRST}")),
    "a test image is empty": (FIRST, holding(f"set/{FIRST}", b"")),
    "a test image of another size": (FIRST, mask(np.zeros((20, 30, 3), np.uint8), f"set/{FIRST}")),
    "test images of another size": (FIRST, every_image((32, 24))),
    "no data set": ("set", without("set")),
    "no test.csv": ("test.csv", without(TESTS)),
    "no sample submission": ("sample_submission.csv", without(SAMPLE)),
    "an empty sample submission": ("sample_submission.csv", holding(SAMPLE, b"")),
    "a sample without rows": ("sample_submission.csv", lines(SAMPLE, lambda rows: rows[:1])),
    "a sample without a row": ("sample_submission.csv", lines(SAMPLE, lambda rows: rows[:-1])),
    "a sample with a row doubled": ("sample_submission.csv", lines(SAMPLE, lambda rows: [*rows, rows[-1]])),
    "a sample of other images": ("sample_submission.csv", lambda f: layout.write_sample(f / "set", ["A", "B", "C"])),
    "a sample with class 12": ("_class_12", lines(SAMPLE, lambda rows: [*rows, f"{IDS[0]}_class_12,-1"])),
    "a sample with extra cells": ("sample_submission.csv", lines(SAMPLE, lambda r: [r[0], *(f"{x},1" for x in r[1:])])),
    "a sample with semicolons": ("sample_submission.csv", holding(SAMPLE, lambda data: data.replace(b",", b";"))),
    "a sample in UTF-16": ("sample_submission.csv", holding(SAMPLE, lambda data: data.decode().encode("utf-16"))),
    "an image twice in test.csv": ("test.csv", lines(TESTS, lambda rows: [*rows, rows[-1]])),
    "an image more in test.csv": ("TEST_0009", lines(TESTS, lambda rows: [*rows, "TEST_0009,TEST_0009.png"])),
    "a blank id in test.csv": ("test.csv", lines(TESTS, lambda rows: [*rows, ",TEST_0000.png"])),
    "an id with a folder in test.csv": ("test.csv", lines(TESTS, lambda rows: [*rows, "a/b,TEST_0000.png"])),
}

SIZES: dict[str, object] = {
    "exchanged sides": [6, 8],
    "a square": [8, 8],
    "twice as wide": [16, 6],
    "the competition's size for other images": [960, 540],
    "zero": [0, 6],
    "negative": [8, -6],
    "one number": [8],
    "three numbers": [8, 6, 3],
    "fractions": [8.5, 6.5],
    "text": "8x6",
    "null": None,
    "true": [True, True],
    "beyond the limit of images": [2**20, 6],
}

STAGE_WRITES: dict[str, tuple[Change, Callable[[np.ndarray], np.ndarray]]] = {
    "all masks of Background": (every_mask(lambda m: np.full_like(m, BACKGROUND)), lambda m: m * 0 + BACKGROUND),
    "all masks of 255": (every_mask(lambda m: np.full_like(m, IGNORE)), lambda m: m * 0 + IGNORE),
    "all masks of one class": (every_mask(lambda m: m * 0 + ROAD), lambda m: m * 0 + ROAD),
    "Background and 255 in masks": (nothing, same),
    "a Mac's hidden file beside masks": (holding(f"run/masks/._{FIRST}", b"Mac"), same),
    "a leftover of a killed process beside masks": (holding("run/masks/.TEST_0000.77.tmp.png", b"half"), same),
    "a note beside masks": (holding("run/masks/notes.txt", b"mine"), same),
    "test.csv in another order": (lines(TESTS, lambda rows: [rows[0], *rows[:0:-1]]), same),
    "a sample with runs": (holding(SAMPLE, lambda data: data.replace(b",-1", b",1 5")), same),
    "a byte order mark and CRLF in the tables": (
        lambda folder: [
            holding(path, lambda data: b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"))(folder)
            for path in (SAMPLE, TESTS)
        ],
        same,
    ),
}

CASES: dict[str, Callable[[Path], None]] = {
    **{f"04: {name}": partial(stage_refuses, *case) for name, case in STAGE_REFUSES.items()},
    **{
        f"04, size: {name}": partial(stage_refuses, "submission_size", nothing, submission_size=size)
        for name, size in SIZES.items()
    },
    **{f"04, written: {name}": partial(stage_writes, *case) for name, case in STAGE_WRITES.items()},
    "04, written: stretched as confirmed": partial(
        stage_writes, nothing, same, submission_size=[6, 8], stretch_masks=True
    ),
}
"""Name of a bad input, and a function that feeds it to the product; AssertionError where it is not handled right."""
