"""The competition's ``submission.csv``: written from predicted masks (stage 04), checked, scored.

One row per test image and scored class holds that class's pixels as run lengths: pairs ``start length``, pixels
counted from 1 along the rows, ``-1`` for a class that does not occur. Background and IGNORE get no row.
``python -m lib.stages.submit check|score --help`` does the same from the command line.
"""

from __future__ import annotations

import argparse
import operator
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
from lib.run import recorded

SUBMISSION_SIZE = (960, 540)
"""(width, height) of the competition's masks."""

_COLUMNS = ("id", "mask_rle")
_ABSENT = "-1"
_LARGEST = 2**15 - 1  # OpenCV's limit for a side


# Run lengths


def rle_encode(mask: np.ndarray) -> str:
    """Run lengths of ``bool (H, W)``, row by row: ``"start length start length"``, from 1; ``-1`` if all False."""
    padded = np.zeros(mask.size + 2, dtype=np.int8)
    padded[1:-1] = mask.ravel()
    # A step at i of the padded mask lies before pixel i of the unpadded one, counted from 1 as wanted.
    edges = np.flatnonzero(np.diff(padded)) + 1
    edges[1::2] -= edges[::2]
    return " ".join(map(str, edges.tolist())) or _ABSENT


def rle_decode(text: str, size: tuple[int, int]) -> np.ndarray:
    """The mask that ``text`` describes.

    Args:
        text: as from :func:`rle_encode`; runs ascend and do not overlap.
        size: (width, height) of the mask.

    Returns:
        ``bool (H, W)``.

    Raises:
        InputError: not pairs of positive numbers, runs out of order or overlapping, or beyond the last pixel.
    """
    width, height = size
    if text.strip() == _ABSENT:
        return np.zeros((height, width), dtype=bool)
    try:
        numbers = np.array([int(word) for word in text.split()], dtype=np.int64)
    except (ValueError, OverflowError):
        numbers = np.zeros(0, dtype=np.int64)
    if numbers.size == 0 or numbers.size % 2 or numbers.min() < 1:
        raise InputError(f"run lengths {_shortened(text)} (expected: pairs of numbers from 1, or {_ABSENT})")
    starts, lengths = numbers[::2], numbers[1::2]
    # The first test keeps the sum of the second from wrapping around.
    if numbers.max() > width * height or (starts + lengths - 1).max() > width * height:
        raise InputError(f"run lengths {_shortened(text)} beyond the last pixel (expected: masks of {width}×{height})")
    edges = np.stack([starts - 1, starts - 1 + lengths], axis=1).ravel()
    gaps = np.diff(edges, prepend=0, append=width * height)
    if gaps.min() < 0:
        raise InputError(f"run lengths {_shortened(text)} (expected: ascending runs that do not overlap)")
    inside = np.arange(gaps.size) % 2 == 1
    return np.repeat(inside, gaps).reshape(height, width)


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")


# Writing and checking


def submit(
    data: str | Path, out: str | Path, submission_size: Sequence[int] = SUBMISSION_SIZE
) -> tuple[Path, pd.DataFrame]:
    """Stage 04: write ``out/submission.csv`` from ``out/masks``, with the sample submission's rows in its order.

    The file gets its name only after :func:`check` has read it back.

    Args:
        data: data set in the competition's layout (``test.csv``, ``sample_submission.csv``).
        out: run folder; its ``masks`` hold one class-id PNG per test image, ``<id>.png``, of any size.
        submission_size: (width, height) to which masks are resized.

    Returns:
        Path of the file, and what :func:`check` returns.

    Raises:
        InputError: masks missing, unreadable or with values that are no class id; faulty tables; a wrong size.
    """
    size = _checked_size(submission_size)
    ids = layout.read_sample(data)
    images = [item.id for item in layout.read_split(data, "test")]
    masks, path = Path(out) / "masks", Path(out) / "submission.csv"
    if not masks.is_dir():
        raise InputError(f"{masks} does not exist. Run 03_infer for this run folder first.")

    def encode(image_id: str) -> list[str]:
        mask = _read_mask(masks / f"{image_id}.png", size)
        return [rle_encode(mask == c) for c in range(len(CLASSES))]

    parameters = {"data": str(Path(data).resolve()), "submission_size": list(size)}
    with recorded(out, "submit", parameters) as results:
        runs = [row for rows in _per_image(encode, images, out, "encode") for row in rows]
        of_row = dict(zip(layout.row_ids(images), runs, strict=True))
        with whole_file(path) as temporary:
            pd.DataFrame({"id": ids, "mask_rle": [of_row[i] for i in ids]}).to_csv(temporary, index=False)
            frequencies = check(temporary, masks, data, size)
        results["submission"] = path.name
    return path, frequencies


def check(
    submission: str | Path, masks: str | Path, data: str | Path, submission_size: Sequence[int] = SUBMISSION_SIZE
) -> pd.DataFrame:
    """Decode a submission again and compare it with its masks, pixel by pixel, and with the sample's rows.

    Args:
        submission: the CSV.
        masks: folder with the class-id PNGs it was made from.
        data, submission_size: as for :func:`submit`.

    Returns:
        How frequent the classes are: a row per scored class, by name; ``pixels`` is the share of all pixels
        (0-1), ``images`` the number of images in which the class occurs.

    Raises:
        InputError: names the first differences, or the faulty files.
    """
    size, submission = _checked_size(submission_size), Path(submission)
    table = layout.read_table(submission, _COLUMNS)
    _check_order(submission, table["id"].tolist(), layout.read_sample(data))
    images = [item.id for item in layout.read_split(data, "test")]
    runs = dict(zip(table["id"], table["mask_rle"], strict=True))

    def compare(image_id: str) -> np.ndarray:
        path = Path(masks) / f"{image_id}.png"
        mask = _read_mask(path, size)
        for c, row in enumerate(layout.row_ids([image_id])):
            different = _decode_row(submission, row, runs[row], size) != (mask == c)
            if different.any():
                y, x = divmod(int(different.argmax()), size[0])
                found = f"{row} differs from {path} in {different.sum()} pixels, first at x {x}, y {y}"
                raise InputError(Fault(submission, found, "Write the submission again."))
        return np.bincount(mask.ravel(), minlength=IGNORE)[: len(CLASSES)]

    counts = np.array(_per_image(compare, images, submission.parent, "check"))
    shares = counts.sum(axis=0) / (len(images) * size[0] * size[1])
    return pd.DataFrame({"pixels": shares, "images": (counts > 0).sum(axis=0)}, index=pd.Index(CLASSES, name="class"))


def _check_order(submission: Path, found: list[str], expected: list[str]) -> None:
    raise_faults(submission.parent, layout.compare_ids(submission, found, expected, "sample_submission.csv"))
    for line, (row, wanted) in enumerate(zip(found, expected, strict=True), start=2):
        if row != wanted:
            difference = f"line {line} is {row} (expected: {wanted}, as in sample_submission.csv)"
            raise InputError(Fault(submission, difference, "Write the rows in the sample's order."))


def _per_image(work: Callable, images: Sequence[str], folder: str | Path, title: str) -> list:
    """``work`` on each image id, with a progress bar; the faults of all images are raised together."""
    faults: list[Fault] = []
    results = in_threads(lambda image_id: attempt(faults, work, image_id), images, title)
    raise_faults(folder, sorted(faults, key=str))
    return results


def _read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Class ids ``uint8 (H, W)`` with Background and IGNORE, resized to (width, height)."""
    mask = image_files.read_label(path)
    if found := image_files.odd_values(mask, len(CLASSES_WITH_BACKGROUND)):
        raise InputError(Fault(path, found, "Re-export it as class ids."))
    # EXACT takes the source pixel under each centre; plain INTER_NEAREST samples half a target pixel up and left.
    return cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)


def _decode_row(submission: Path, row: str, text: str, size: tuple[int, int]) -> np.ndarray:
    try:
        return rle_decode(text, size)
    except InputError as error:
        raise InputError(
            Fault(submission, f"{row}: {error}", "Write the submission again, or correct its size.")
        ) from None


def _checked_size(size: Sequence[int]) -> tuple[int, int]:
    """(width, height) as a tuple of int; notebooks pass lists."""
    try:
        width, height = map(operator.index, size)
    except (TypeError, ValueError):
        width = height = 0
    if not (0 < width <= _LARGEST and 0 < height <= _LARGEST):
        raise InputError(f"submission_size: {size!r} (expected: width and height in pixels, such as [960, 540])")
    return width, height


# Scoring


def score(submission: str | Path, labels: str | Path, submission_size: Sequence[int] | None = None) -> pd.Series:
    """Intersection over union of a submission with withheld labels, over all pixels of all images together.

    Pixels labelled IGNORE do not count; on pixels labelled Background every prediction is a false positive.

    Args:
        submission: the CSV; its rows are those of the labels' images, in any order.
        labels: folder with ``<id>.png`` per image, class ids with Background or IGNORE, of any size.
        submission_size: (width, height) of the submission's masks, to which labels are resized; None takes the
            smaller of ``SUBMISSION_SIZE`` and the first label's own size that holds every run.

    Returns:
        IoU (0-1) by class name, NaN for a class that no label shows; then ``mIoU``, the mean of the others.

    Raises:
        InputError: missing or faulty labels, rows that do not belong to them, malformed rows, a wrong size.
    """
    submission, labels = Path(submission), Path(labels)
    table = layout.read_table(submission, _COLUMNS)
    images = sorted(path.stem for path in labels.glob("*.png"))
    if not images:
        found = "no PNG, looked for the labels of the test images" if labels.is_dir() else "no such folder"
        raise InputError(Fault(labels, found, "Pass the folder with <id>.png per test image."))
    raise_faults(
        submission.parent, layout.compare_ids(submission, table["id"].tolist(), layout.row_ids(images), str(labels))
    )
    runs = dict(zip(table["id"], table["mask_rle"], strict=True))
    if submission_size is None:
        size = _infer_size(
            submission, table["mask_rle"], image_files.read_label(labels / f"{images[0]}.png").shape[::-1]
        )
    else:
        size = _checked_size(submission_size)

    def count(image_id: str) -> np.ndarray:
        """Pixels per class in label and prediction, in either, and in the label."""
        label = _read_mask(labels / f"{image_id}.png", size)
        counted, found = label != IGNORE, []
        for c, row in enumerate(layout.row_ids([image_id])):
            predicted, true = _decode_row(submission, row, runs[row], size) & counted, label == c
            found.append([(predicted & true).sum(), (predicted | true).sum(), true.sum()])
        return np.array(found)

    both, either, true = np.sum(_per_image(count, images, submission.parent, "score"), axis=0).T
    iou = pd.Series(np.where(true > 0, both / np.maximum(either, 1), np.nan), index=pd.Index(CLASSES, name="class"))
    return pd.concat([iou, pd.Series({"mIoU": iou.mean()})])


def _infer_size(submission: Path, runs: Sequence[str], label_size: tuple[int, int]) -> tuple[int, int]:
    last = max(_last_pixel(text) for text in runs)
    for width, height in sorted((label_size, SUBMISSION_SIZE), key=lambda size: size[0] * size[1]):
        if last <= width * height:
            return width, height
    found = f"a run ends at pixel {last}, beyond the labels' {label_size} and the competition's {SUBMISSION_SIZE}"
    raise InputError(Fault(submission, found, "Give the size of its masks as submission_size (--size WIDTH HEIGHT)."))


def _last_pixel(text: str) -> int:
    try:
        start, length = map(int, text.split()[-2:])
    except ValueError:  # -1, or malformed, which decoding reports
        return 0
    return start + length - 1


# Command line


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lib.stages.submit", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("check", help="compare a submission with the masks it was made from")
    one.add_argument("submission", metavar="SUBMISSION.csv")
    one.add_argument("--masks", required=True, metavar="DIR")
    one.add_argument("--data", required=True, metavar="DIR", help="data set in the competition's layout")
    one.add_argument("--size", nargs=2, type=int, default=SUBMISSION_SIZE, metavar=("WIDTH", "HEIGHT"))
    many = commands.add_parser("score", help="IoU of submissions with withheld labels, one column for each")
    many.add_argument("submissions", nargs="+", metavar="SUBMISSION.csv")
    many.add_argument("--labels", required=True, metavar="DIR", help="<id>.png per test image")
    many.add_argument("--size", nargs=2, type=int, metavar=("WIDTH", "HEIGHT"), help="default: inferred")
    arguments = parser.parse_args()
    try:
        if arguments.command == "check":
            table = check(arguments.submission, arguments.masks, arguments.data, arguments.size)
            print(f"{arguments.submission}: agrees with {arguments.masks}, pixel by pixel")
        else:
            columns = {path: score(path, arguments.labels, arguments.size) for path in arguments.submissions}
            table = pd.DataFrame(columns)
    except InputError as error:
        raise SystemExit(str(error)) from None
    print(table.to_string(float_format="%.4f", na_rep="–"))


if __name__ == "__main__":
    main()
