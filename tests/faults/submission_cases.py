"""Bad inputs of the check of a submission and of its score; each in an empty folder."""

import gzip
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2

from lib.submission.score import score_submission
from lib.submission.table import check_submission
from tests.faults.outcome import refused
from tests.faults.submission_world import (
    COLOUR,
    FIRST,
    IDS,
    LARGE,
    PLAIN,
    SAMPLE,
    SIZE,
    SUBMISSION,
    TESTS,
    Change,
    coded,
    every_mask,
    folder_in_place,
    holding,
    lines,
    mask,
    moved,
    nothing,
    stage,
    upper_left,
    without,
    world,
)


def check_refuses(naming: str, change: Change, folder: Path, size: tuple[int, int] = SIZE, **given) -> None:
    world(folder)
    stage(folder)
    change(folder)
    paths = {"submission": "run/submission.csv", "masks": "run/masks", "data": "set"} | given
    refused(check_submission, *(folder / path for path in paths.values()), size, naming=naming)


def score_refuses(naming: str, change: Change, folder: Path, size: tuple[int, int] | None = SIZE, **given) -> None:
    world(folder)
    stage(folder)
    change(folder)
    paths = {"submission": "run/submission.csv", "labels": "labels"} | given
    refused(score_submission, *(folder / path for path in paths.values()), size, naming=naming)


def score_is_one(change: Change, folder: Path, size: tuple[int, int] | None = SIZE) -> None:
    world(folder)
    stage(folder)
    change(folder)
    scores = score_submission(folder / "run" / "submission.csv", folder / "labels", size)
    assert scores.eq(1).all(), scores


CHECK_REFUSES: dict[str, tuple[str, Change, dict]] = {
    "no submission": ("submission.csv", without(SUBMISSION), {}),
    "a folder as the submission": ("submission.csv", folder_in_place(SUBMISSION), {}),
    "an empty submission": ("submission.csv", holding(SUBMISSION, b""), {}),
    "the sample as the submission": ("differs", nothing, {"submission": SAMPLE}),
    "a mask as the submission": (FIRST, nothing, {"submission": f"run/masks/{FIRST}"}),
    "a gzip file as the submission": ("submission.csv", holding(SUBMISSION, gzip.compress), {}),
    "no masks": (FIRST, nothing, {"masks": "nowhere"}),
    "masks one folder too high": (FIRST, nothing, {"masks": "run"}),
    "test images as masks": (FIRST, nothing, {"masks": "set"}),
    "masks that changed": ("differs", mask(PLAIN), {}),
    "a mask that is missing": (FIRST, without(f"run/masks/{FIRST}"), {}),
    "masks of two images exchanged": (
        "differs",
        lambda folder: [
            moved(f"run/masks/{a}", f"run/masks/{b}")(folder)
            for a, b in ((FIRST, "x"), ("TEST_0001.png", FIRST), ("x", "TEST_0001.png"))
        ],
        {},
    ),
    "no data set": ("nowhere", nothing, {"data": "nowhere"}),
    "a data set with another image": ("TEST_0009", lines(TESTS, lambda r: [*r, "TEST_0009,TEST_0009.png"]), {}),
    "exchanged sides": ("", nothing, {"size": SIZE[::-1]}),
    "a smaller size": ("", nothing, {"size": (4, 3)}),
    "a larger size": ("", nothing, {"size": (16, 12)}),
    "the competition's size": ("", nothing, {"size": (960, 540)}),
}

SCORE_REFUSES: dict[str, tuple[str, Change, dict]] = {
    "no labels folder": ("nowhere: no TEST_0000.png, no such folder", nothing, {"labels": "nowhere"}),
    "a file as labels": (FIRST, nothing, {"labels": f"labels/{FIRST}"}),
    "an empty labels folder": ("labels: no TEST_0000.png, no PNG at all", folder_in_place("labels"), {}),
    "labels one folder too high": (
        "labels, which has",
        moved("run", "set/run"),
        {"labels": ".", "submission": "set/" + SUBMISSION},
    ),
    "labels two folders too high": (
        "gt/test, which has",
        lambda folder: ((folder / "gt").mkdir(), moved("labels", "gt/test")(folder), without("run/masks")(folder)),
        {"labels": "."},
    ),
    "labels of other images": (
        "labels: no TEST_0000.png (expected",
        lambda f: [moved(f"labels/{i}.png", f"labels/VAL_{n}.png")(f) for n, i in enumerate(IDS)],
        {},
    ),
    "a label of another image": (
        "labels: no TEST_0000.png (expected",
        moved(f"labels/{FIRST}", "labels/TEST_0009.png"),
        {},
    ),
    "a label is missing": ("labels: no TEST_0000.png (expected", without(f"labels/{FIRST}"), {}),
    "a label too many": ("labels: holds TEST_0009.png, of no row (expected", mask(PLAIN, "labels/TEST_0009.png"), {}),
    "labels as .jpg": ("no PNG", lambda f: [moved(f"labels/{i}.png", f"labels/{i}.jpg")(f) for i in IDS], {}),
    "test images as labels": (FIRST, nothing, {"labels": "set"}),
    "a label in colour": (FIRST, mask(COLOUR, f"labels/{FIRST}"), {}),
    "a label with class 13": (f"{FIRST}: label value 13", mask(PLAIN + 5, f"labels/{FIRST}"), {}),
    "a JPEG named PNG among labels": (FIRST, coded(".jpg", PLAIN, f"labels/{FIRST}"), {}),
    "a truncated label": (FIRST, holding(f"labels/{FIRST}", lambda data: data[:-20]), {}),
    "an empty label file": (FIRST, holding(f"labels/{FIRST}", b""), {}),
    "labels of two sizes, no size": ("16×12 and 960×540", mask(LARGE, f"labels/{FIRST}"), {"size": None}),
    "runs that fit two sizes": ("16×12 (the labels' size) and of 960×540", upper_left, {"size": None}),
    "runs that fit no size": (
        "ends at pixel 518401",
        holding(
            SUBMISSION, lambda data: data.replace(b"_0_class_0,", b"_0_class_0,", 1).replace(b",-1", b",518401 1", 1)
        ),
        {"size": None},
    ),
    "a size that is too small": ("4×3", nothing, {"size": (4, 3)}),
    "no submission": ("submission.csv", without(SUBMISSION), {}),
    "an empty submission": ("submission.csv", holding(SUBMISSION, b""), {}),
    "a submission with extra cells": (
        "submission.csv",
        lines(SUBMISSION, lambda r: [r[0], *(f"{x},1" for x in r[1:])]),
        {},
    ),
    "a submission without a row": ("TEST_0002_class_11", lines(SUBMISSION, lambda rows: rows[:-1]), {}),
    "a submission with a row doubled": ("2 rows", lines(SUBMISSION, lambda rows: [*rows, rows[-1]]), {}),
    "a submission of other ids": ("labels", holding(SUBMISSION, lambda data: data.replace(b"TEST", b"VAL")), {}),
    "a submission of malformed ids": ("labels", holding(SUBMISSION, lambda data: data.replace(b"_class_", b"-")), {}),
    "a submission of blank cells": ("run lengths ''", holding(SUBMISSION, lambda data: data.replace(b"-1", b"")), {}),
    "a submission of malformed runs": (
        "TEST_0000_class",
        holding(SUBMISSION, lambda data: data.replace(b" ", b"_")),
        {},
    ),
}

SCORE_IS_ONE: dict[str, tuple[Change, tuple[int, int] | None]] = {
    "a Mac's hidden file beside labels": (holding(f"labels/._{FIRST}", b"Mac"), SIZE),
    "other files beside labels": (holding("labels/notes.txt", b"mine"), SIZE),
    "rows in another order": (lines(SUBMISSION, lambda rows: [rows[0], *rows[:0:-1]]), SIZE),
    "labels of half the size": (every_mask(lambda m: m[1::2, 1::2], "labels"), SIZE),
    "labels of the submission's size": (
        every_mask(lambda m: cv2.resize(m, SIZE, interpolation=cv2.INTER_NEAREST_EXACT), "labels"),
        SIZE,
    ),
}

CASES: dict[str, Callable[[Path], None]] = {
    **{f"check: {name}": partial(check_refuses, *case, **given) for name, (*case, given) in CHECK_REFUSES.items()},
    **{f"score: {name}": partial(score_refuses, *case, **given) for name, (*case, given) in SCORE_REFUSES.items()},
    **{f"score, right: {name}": partial(score_is_one, c, size=size) for name, (c, size) in SCORE_IS_ONE.items()},
}
"""Name of a bad input, and a function that feeds it to the product; AssertionError where it is not handled right."""
