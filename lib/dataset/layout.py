"""A data set in the competition's layout: its tables, and whether all of it is sound.

The layout is a folder with one CSV per split (``id``, ``img_path`` and, where there are labels, ``gt_path``) and
``sample_submission.csv``; paths are relative to the CSV, a label is a single-channel image of class ids. Call
:func:`check` before any long work: it reports everything that is wrong with the files at once.
``python -m lib.dataset.layout DIR`` prints the report.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lib.dataset.classes import CLASSES
from lib.dataset.image_files import image_size, odd_values, read_label
from lib.errors import Fault, InputError, attempt, raise_faults
from lib.parallel import in_threads

SPLITS = {
    "train_source": ("id", "img_path", "gt_path"),
    "val_source": ("id", "img_path", "gt_path"),
    "train_target": ("id", "img_path"),
    "test": ("id", "img_path"),
}
"""Columns of each split's CSV; others may stand beside them."""


@dataclass(frozen=True)
class Item:
    """One row of a split: its id and the files it names (``label`` is None in a split without labels)."""

    id: str
    image: Path
    label: Path | None = None


# Tables


def read_table(path: str | Path, columns: Sequence[str]) -> pd.DataFrame:
    """A CSV with at least one row and these columns (others may stand beside them), every cell a string.

    Raises:
        InputError: missing, not a CSV, without rows, without one of the columns.
    """
    expected = f"(expected: a CSV with the columns {', '.join(columns)})"
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False)
    except OSError as error:
        found = f"{error.strerror}, looked in {Path(path).absolute().parent} {expected}"
        raise InputError(Fault(path, found, "Restore the file or correct the path.")) from None
    except ValueError as error:  # pandas' parser errors and undecodable text alike
        raise InputError(Fault(path, f"{str(error).strip()} {expected}", "Write the CSV again.")) from None
    missing = [column for column in columns if column not in table]
    if missing:
        found = f"only the columns {', '.join(map(str, table.columns))} {expected}"
        raise InputError(Fault(path, found, f"Rename or add {', '.join(missing)}."))
    if table.empty:
        raise InputError(Fault(path, "no rows below the header", "Write the CSV again."))
    return table


def read_split(folder: str | Path, name: str) -> list[Item]:
    """The rows of ``folder/<name>.csv`` in their order; the files they name are not opened.

    Args:
        folder: data set in the competition's layout.
        name: one of ``SPLITS``.

    Raises:
        InputError: no such folder, split, CSV or column; no rows; blank cells or repeated ids.
    """
    folder, faults = _locate(folder, [name]), []
    items = _items(faults, folder, name)
    raise_faults(folder, faults)
    return items


def row_ids(image_ids: Iterable[str]) -> list[str]:
    """Ids of the submission rows of these images: one per image and scored class."""
    return [f"{image_id}_class_{c}" for image_id in image_ids for c in range(len(CLASSES))]


def read_sample(folder: str | Path) -> list[str]:
    """The row ids of ``folder/sample_submission.csv`` in their order, which agree with ``test.csv``.

    Raises:
        InputError: either table is missing or faulty, or they disagree.
    """
    test, faults = read_split(folder, "test"), []
    ids = _sample(faults, Path(folder), test)
    raise_faults(folder, faults)
    return ids


def compare_ids(path: Path, found: Sequence[str], expected: Sequence[str], source: str) -> list[Fault]:
    """Faults of the table ``path``, whose ids ``found`` should be those ``expected`` by ``source``, in any order."""
    counts, wanted = Counter(found), dict.fromkeys(expected)
    add, remove = f"Add the rows that {source} asks for.", f"Remove the rows that {source} does not ask for."
    return [
        *(Fault(path, f"no row {i} (expected by {source})", add) for i in wanted if i not in counts),
        *(Fault(path, f"row {i} (unknown to {source})", remove) for i in counts if i not in wanted),
        *_repeated(path, counts),
    ]


def _repeated(path: Path, counts: Counter) -> list[Fault]:
    remedy = "Give each row an id of its own."
    return [Fault(path, f"id {i} in {n} rows (expected: one)", remedy) for i, n in counts.items() if n > 1]


def _locate(folder: str | Path, splits: Sequence[str]) -> Path:
    """The folder, when it exists and holds at least one of the splits' tables."""
    folder = Path(folder)
    if not splits or not set(splits) <= set(SPLITS):
        raise InputError(f"splits: {splits} (expected: some of {', '.join(SPLITS)})")
    tables = [f"{name}.csv" for name in splits]
    expected = f"expected: a folder with {', '.join(tables)}"
    if not folder.is_dir():
        found = f"no such folder, looked in {folder.absolute().parent} ({expected})"
        raise InputError(Fault(folder, found, "Unpack the data set there or pass its folder."))
    if not any((folder / table).is_file() for table in tables):
        nested = [d for d in folder.iterdir() if d.is_dir() and all((d / table).is_file() for table in tables)]
        remedy = f"Pass {nested[0]}, which has them." if len(nested) == 1 else "Pass the folder that has them."
        raise InputError(Fault(folder, f"none of these tables, looked in {folder.absolute()} ({expected})", remedy))
    return folder


def _items(faults: list[Fault], folder: Path, name: str) -> list[Item]:
    path, columns = folder / f"{name}.csv", SPLITS[name]
    table, items = read_table(path, columns), []
    for line, (image_id, *files) in enumerate(table[list(columns)].itertuples(index=False), start=2):
        if not all((image_id, *files)):
            faults.append(Fault(path, f"line {line} has a blank cell", f"Fill in {', '.join(columns)}."))
        elif Path(image_id).name != image_id:  # results are named after it
            found = f"line {line}: id {image_id!r} (expected: a plain file name)"
            faults.append(Fault(path, found, "Rename the id."))
        else:
            items.append(Item(image_id, *(folder / file for file in files)))
    faults += _repeated(path, Counter(item.id for item in items))
    return items


def _sample(faults: list[Fault], folder: Path, test: Sequence[Item]) -> list[str]:
    path = folder / "sample_submission.csv"
    ids = read_table(path, ("id", "mask_rle"))["id"].tolist()
    faults += compare_ids(path, ids, row_ids(item.id for item in test), "test.csv")
    return ids


# The whole data set


@dataclass(frozen=True)
class Report:
    """What :func:`check` found in a sound data set.

    Attributes:
        folder: the data set.
        sizes: split to the number of its images of each (width, height); ``sizes[split].total()`` is all of them.
    """

    folder: Path
    sizes: dict[str, Counter[tuple[int, int]]]

    def __str__(self) -> str:
        lines = [f"{self.folder}: no faults"]
        for split, counts in self.sizes.items():
            sizes = ", ".join(f"{n} of {w}×{h}" for (w, h), n in counts.most_common())
            labels = " with labels" if "gt_path" in SPLITS[split] else ""
            lines.append(f"{split}: {counts.total()} images{labels}, {sizes} (width×height)")
        return "\n  ".join(lines)


def check(folder: str | Path, splits: Sequence[str] = tuple(SPLITS), classes: int = len(CLASSES)) -> Report:
    """Read every table and file of the splits and report all faults at once, with a progress bar.

    Labels are decoded in full. A PNG image whose checksums all hold is not decoded: that is many times quicker
    and finds the same. Images of other formats are decoded. With ``"test"`` goes ``sample_submission.csv``.

    Args:
        folder: data set in the competition's layout.
        splits: names from ``SPLITS``.
        classes: number of class ids a label may contain; 13 with Background.

    Raises:
        InputError: names the faulty files, at most five of a kind: missing, unreadable or truncated, label and
            image of different sizes, label values that are no class ids, faulty tables, ids that disagree.
    """
    folder = _locate(folder, splits)
    faults: list[Fault] = []
    items = {split: attempt(faults, _items, faults, folder, split) or [] for split in splits}
    if items.get("test"):
        attempt(faults, _sample, faults, folder, items["test"])
    everything = [item for split in items.values() for item in split]
    sizes = iter(in_threads(lambda item: _examine(faults, item, classes), everything, "check"))
    raise_faults(folder, sorted(set(faults), key=str))  # threads report in any order
    return Report(folder, {split: Counter(next(sizes) for _ in rows) for split, rows in items.items()})


def _examine(faults: list[Fault], item: Item, classes: int) -> tuple[int, int] | None:
    """The image's (width, height), None where it is unreadable; adds the faults of image and label."""
    size = attempt(faults, image_size, item.image)
    label = attempt(faults, read_label, item.label) if item.label else None
    if label is None:
        return size
    if found := odd_values(label, classes):
        faults.append(Fault(item.label, found, "Re-export the label as class ids."))
    height, width = label.shape
    if size not in (None, (width, height)):
        found = f"{width}×{height}, but its image {item.image.name} is {size[0]}×{size[1]}"
        faults.append(Fault(item.label, found, "Re-export the label in the image's size."))
    return size


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lib.dataset.layout", description="Check a data set for faults.")
    parser.add_argument("folder", metavar="DIR", help="data set in the competition's layout")
    try:
        print(check(parser.parse_args().folder))
    except InputError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
