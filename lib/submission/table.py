"""``submission.csv``: written from masks, then read back and compared with them.

One row per test image and scored class holds that class's run lengths; Background and IGNORE get no row.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from lib.dataset import image_files, layout
from lib.dataset.classes import CLASSES, CLASSES_WITH_BACKGROUND, IGNORE
from lib.errors import Fault, InputError, attempt, raise_faults
from lib.files import whole_file
from lib.parallel import in_threads
from lib.submission.run_length import decode_mask, encode_mask

SIZE = (960, 540)  # (width, height) of the competition's masks
COLUMNS = ("id", "mask_rle")
_REMEDY = "Write the submission again, or correct its size."


def write_submission(path: str | Path, masks: str | Path, data: str | Path, size: tuple[int, int]) -> pd.DataFrame:
    """Write a CSV with the sample submission's rows, and return the class frequencies of :func:`check_submission`.

    The file gets its name only after the check.

    Args:
        masks: folder with one class-id PNG per test image, ``<id>.png``, of any size.
        data: data set in the competition's layout.
        size: (width, height) to which masks are resized.

    Raises:
        InputError: masks missing, unreadable or with values that are no class id; faulty tables.
    """
    ids = layout.read_sample(data)
    images = [item.id for item in layout.read_split(data, "test")]

    def encode(image_id: str) -> list[str]:
        mask = read_mask(Path(masks) / f"{image_id}.png", size)
        return [encode_mask(mask == c) for c in range(len(CLASSES))]

    runs = [row for rows in per_image(encode, images, Path(path).parent, "encode") for row in rows]
    run_of = dict(zip(layout.row_ids(images), runs, strict=True))
    with whole_file(path) as temporary:
        pd.DataFrame({"id": ids, "mask_rle": [run_of[i] for i in ids]}).to_csv(temporary, index=False)
        return check_submission(temporary, masks, data, size)


def check_submission(
    submission: str | Path, masks: str | Path, data: str | Path, size: tuple[int, int] = SIZE
) -> pd.DataFrame:
    """Decode a submission and compare it with its masks, pixel by pixel, and with the sample submission's rows.

    Arguments as :func:`write_submission`. Returns a row per scored class, by name; ``pixels`` is the share of all
    pixels (0-1), ``images`` the number of images in which the class occurs.
    """
    submission = Path(submission)
    table = layout.read_table(submission, COLUMNS, exact=True)
    found, expected = table["id"].tolist(), layout.read_sample(data)
    raise_faults(submission.parent, layout.compare_ids(submission, found, expected, "sample_submission.csv"))
    for line, (row, wanted) in enumerate(zip(found, expected, strict=True), start=2):
        if row != wanted:
            difference = f"line {line} is {row} (expected: {wanted}, as in sample_submission.csv)"
            raise InputError(Fault(submission, difference, "Write the rows in the sample's order."))
    images = [item.id for item in layout.read_split(data, "test")]
    runs = dict(zip(table["id"], table["mask_rle"], strict=True))

    def compare(image_id: str) -> np.ndarray:
        path = Path(masks) / f"{image_id}.png"
        mask = read_mask(path, size)
        for c, row in enumerate(layout.row_ids([image_id])):
            different = decode_row(submission, row, runs[row], size) != (mask == c)
            if different.any():
                y, x = divmod(int(different.argmax()), size[0])
                difference = f"{row} differs from {path} in {different.sum()} pixels, first at x {x}, y {y}"
                raise InputError(Fault(submission, difference, _REMEDY))
        return np.bincount(mask.ravel(), minlength=IGNORE)[: len(CLASSES)]

    counts = np.array(per_image(compare, images, submission.parent, "check"))
    shares = counts.sum(axis=0) / (len(images) * size[0] * size[1])
    return pd.DataFrame({"pixels": shares, "images": (counts > 0).sum(axis=0)}, index=pd.Index(CLASSES, name="class"))


def per_image(work: Callable, images: Sequence[str], folder: str | Path, title: str) -> list:
    """Return ``work`` of each image id, with a progress bar; the faults of all images are raised together."""
    faults: list[Fault] = []
    results = in_threads(lambda image_id: attempt(faults, work, image_id), images, title)
    raise_faults(folder, sorted(faults, key=str))
    return results


def read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Read class ids ``uint8 (H, W)`` with Background and IGNORE, resized to (width, height)."""
    mask = image_files.read_label(path)
    if found := image_files.odd_values(mask, len(CLASSES_WITH_BACKGROUND)):
        raise InputError(Fault(path, found, "Re-export it as class ids."))
    # EXACT takes the source pixel under each centre; plain INTER_NEAREST samples half a target pixel up and left.
    return cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)


def decode_row(submission: Path, row: str, text: str, size: tuple[int, int]) -> np.ndarray:
    """Decode one row's run lengths to ``bool (H, W)``; errors name the file and the row."""
    try:
        return decode_mask(text, size)
    except InputError as error:
        raise InputError(Fault(submission, f"{row}: {error}", _REMEDY)) from None
