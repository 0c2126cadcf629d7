"""Bad inputs of stage 04, of the check of a submission and of its score; each in an empty folder."""

import gzip
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pandas as pd

from lib import run
from lib.dataset import image_files, layout
from lib.dataset.classes import BACKGROUND, CLASSES, IGNORE, ROAD, SKY
from lib.stages.submit import SubmitOptions, submit
from lib.submission.run_length import encode_mask
from lib.submission.score import score_submission
from lib.submission.table import check_submission
from tests.faults.mutate_submission import sound
from tests.faults.outcome import refused

IDS = ("TEST_0000", "TEST_0001", "TEST_0002")
SIZE = (8, 6)  # width, height of the submission; images and masks are twice as large
FIRST = f"{IDS[0]}.png"
Change = Callable[[Path], object]


def world(folder: Path) -> None:
    """Write a test split of black images, masks of all classes in a run folder, and the same as labels."""
    for image_id, mask in zip(IDS, sound().masks.values(), strict=True):
        image_files.write_png(folder / "set" / f"{image_id}.png", np.zeros((12, 16, 3), np.uint8))
        image_files.write_png(folder / "run" / "masks" / f"{image_id}.png", mask)
        image_files.write_png(folder / "labels" / f"{image_id}.png", mask)
    layout.write_table(folder / "set" / "test.csv", ("id", "img_path"), [(i, f"{i}.png") for i in IDS])
    layout.write_sample(folder / "set", IDS)


def stage(folder: Path, **options) -> Path:
    given = {"data": folder / "set", "out": folder / "run", "submission_size": list(SIZE)} | options
    with mock.patch.object(run, "environment", dict):  # not tested here, and finding it out imports torch
        return submit(SubmitOptions(**given))[0]


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
    for mask in sound().masks.values():
        mask = cv2.resize(expected(mask), size, interpolation=cv2.INTER_NEAREST_EXACT)
        wanted += [encode_mask(mask == c) for c in range(len(CLASSES))]
    assert table["mask_rle"].tolist() == wanted


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


# Changes of the world


def nothing(folder: Path) -> None:
    pass


def without(path: str) -> Change:
    def change(folder: Path) -> None:
        shutil.rmtree(folder / path) if (folder / path).is_dir() else (folder / path).unlink()

    return change


def moved(path: str, to: str) -> Change:
    return lambda folder: (folder / path).rename(folder / to)


def mask(array: np.ndarray, path: str = f"run/masks/{FIRST}") -> Change:
    return lambda folder: image_files.write_png(folder / path, array)


def holding(path: str, content: bytes | Callable[[bytes], bytes]) -> Change:
    """Replace a file by other bytes, which may depend on its own."""

    def change(folder: Path) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content if isinstance(content, bytes) else content((folder / path).read_bytes()))

    return change


def coded(suffix: str, array: np.ndarray, path: str = f"run/masks/{FIRST}") -> Change:
    return holding(path, cv2.imencode(suffix, array)[1].tobytes())


def folder_in_place(path: str) -> Change:
    def change(folder: Path) -> None:
        without(path)(folder)
        (folder / path).mkdir()

    return change


def link_to_nowhere(folder: Path) -> None:
    path = folder / "run" / "masks" / FIRST
    path.unlink()
    path.symlink_to(folder / "gone.png")


def every_image(size: tuple[int, int]) -> Change:
    def change(folder: Path) -> None:
        for image_id in IDS:
            image_files.write_png(folder / "set" / f"{image_id}.png", np.zeros((*size[::-1], 3), np.uint8))

    return change


def every_mask(change: Callable[[np.ndarray], np.ndarray], where: str = "run/masks") -> Change:
    def changed(folder: Path) -> None:
        for path in (folder / where).glob("*.png"):
            image_files.write_png(path, np.ascontiguousarray(change(image_files.read_label(path))))

    return changed


def lines(path: str, change: Callable[[list[str]], list[str]]) -> Change:
    return holding(path, lambda data: "\n".join([*change(data.decode().splitlines()), ""]).encode())


def same(array: np.ndarray) -> np.ndarray:
    return array


SAMPLE, TESTS, SUBMISSION = "set/sample_submission.csv", "set/test.csv", "run/submission.csv"
PLAIN = np.full((12, 16), SKY, np.uint8)
COLOUR = np.full((12, 16, 3), 7, np.uint8)
LARGE = np.full((540, 960), SKY, np.uint8)


def upper_left(folder: Path) -> None:
    """Submit one pixel of Road: it fits masks of every size."""
    rows = [(i, "1 1" if i == f"{IDS[0]}_class_{ROAD}" else "-1") for i in layout.row_ids(IDS)]
    layout.write_table(folder / SUBMISSION, ("id", "mask_rle"), rows)


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
    **{f"04: {name}": partial(stage_refuses, *case) for name, case in STAGE_REFUSES.items()},
    **{
        f"04, size: {name}": partial(stage_refuses, "submission_size", nothing, submission_size=size)
        for name, size in SIZES.items()
    },
    **{f"04, written: {name}": partial(stage_writes, *case) for name, case in STAGE_WRITES.items()},
    "04, written: stretched as confirmed": partial(
        stage_writes, nothing, same, submission_size=[6, 8], stretch_masks=True
    ),
    **{f"check: {name}": partial(check_refuses, *case, **given) for name, (*case, given) in CHECK_REFUSES.items()},
    **{f"score: {name}": partial(score_refuses, *case, **given) for name, (*case, given) in SCORE_REFUSES.items()},
    **{f"score, right: {name}": partial(score_is_one, c, size=size) for name, (c, size) in SCORE_IS_ONE.items()},
}
"""Name of a bad input, and a function that feeds it to the product; AssertionError where it is not handled right."""
