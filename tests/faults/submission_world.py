"""A folder with all that a submission takes: a test split, masks and labels; and changes of it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import cv2
import numpy as np

from lib import run
from lib.dataset import image_files, layout
from lib.dataset.classes import ROAD, SKY
from lib.stages.submit import SubmitOptions, submit
from tests.faults.mutate_submission import sound

IDS = ("TEST_0000", "TEST_0001", "TEST_0002")
SIZE = (8, 6)  # width, height of the submission; images and masks are twice as large
FIRST = f"{IDS[0]}.png"
SAMPLE, TESTS, SUBMISSION = "set/sample_submission.csv", "set/test.csv", "run/submission.csv"
PLAIN = np.full((12, 16), SKY, np.uint8)
COLOUR = np.full((12, 16, 3), 7, np.uint8)
LARGE = np.full((540, 960), SKY, np.uint8)
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


def upper_left(folder: Path) -> None:
    """Submit one pixel of Road: it fits masks of every size."""
    rows = [(i, "1 1" if i == f"{IDS[0]}_class_{ROAD}" else "-1") for i in layout.row_ids(IDS)]
    layout.write_table(folder / SUBMISSION, ("id", "mask_rle"), rows)
