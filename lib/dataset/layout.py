"""The competition's layout: tables of a data set, and a check of all its files.

A data set is a folder with one CSV per split (``id``, ``img_path`` and, for labelled splits, ``gt_path``) and
``sample_submission.csv``. Paths are relative to the CSV; a label is a single-channel image of class ids.
"""

import csv
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lib.dataset import contents
from lib.dataset.classes import CLASSES
from lib.dataset.formats import refuse_special
from lib.dataset.image_files import check_image, load_label, odd_values, used_colours, value_counts
from lib.dataset.jpeg_decoder import JpegDecoder
from lib.errors import Fault, InputError, attempt, raise_faults, shortened
from lib.files import whole_file
from lib.parallel import in_threads

SPLITS = {
    "train_source": ("id", "img_path", "gt_path"),
    "val_source": ("id", "img_path", "gt_path"),
    "train_target": ("id", "img_path"),
    "test": ("id", "img_path"),
}
"""Required columns of each split's CSV."""
SAMPLE_SUBMISSION = "sample_submission.csv"
_ID_BYTES = 200  # file systems allow 255; results add to the name


@dataclass(frozen=True)
class Item:
    """One row of a split: its id, its image and its label; None without labels."""

    id: str
    image: Path
    label: Path | None = None


def read_table(path: str | Path, columns: Sequence[str], exact: bool = False) -> pd.DataFrame:
    """Read a CSV with at least one row and these columns, as strings; raise InputError otherwise.

    ``exact``: refuse further columns and another order. A byte order mark, other line ends and quotes are no fault.
    """
    expected = f"(expected: a CSV with the columns {', '.join(columns)})"
    try:
        refuse_special(path)
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except OSError as error:
        found = f"{error.strerror}, looked in {Path(path).absolute().parent} {expected}"
        raise InputError(Fault(path, found, "Restore the file or correct the path.")) from None
    except InputError:
        raise
    except ValueError as error:  # pandas' parser errors and undecodable text
        raise InputError(Fault(path, f"{str(error).strip()} {expected}", "Write the CSV again.")) from None
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes cells beyond the header for an index
        raise InputError(Fault(path, f"rows with more cells than the header {expected}", "Write the CSV again."))
    missing = [column for column in columns if column not in table]
    header = shortened(", ".join(map(str, table.columns)))
    if missing:
        found = f"only the columns {header} {expected}"
        raise InputError(Fault(path, found, f"Rename or add {', '.join(missing)}."))
    if exact and list(table.columns) != list(columns):
        found = f"the columns {header} (expected: {', '.join(columns)} alone, in this order)"
        raise InputError(Fault(path, found, "Write the CSV again."))
    if table.empty:
        raise InputError(Fault(path, "no rows below the header", "Write the CSV again."))
    return table


def write_table(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Write a CSV, whole or not at all."""
    with whole_file(path) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])


def read_split(folder: str | Path, name: str) -> list[Item]:
    """Read the rows of ``folder/<name>.csv``, or raise InputError; the files that they name are not opened."""
    folder = _locate(folder, [name])
    items, faults = _parse_split(folder, name)
    raise_faults(folder, faults)
    return items


def row_ids(image_ids: Iterable[str]) -> list[str]:
    """Return the ids of the images' submission rows: one per image and scored class."""
    return [f"{image_id}_class_{c}" for image_id in image_ids for c in range(len(CLASSES))]


def read_sample(folder: str | Path) -> list[str]:
    """Read the row ids of ``folder/sample_submission.csv`` in order; raise InputError unless ``test.csv`` agrees."""
    path = Path(folder) / SAMPLE_SUBMISSION
    images = [item.id for item in read_split(folder, "test")]
    ids = read_table(path, ("id", "mask_rle"))["id"].tolist()
    raise_faults(folder, compare_ids(path, ids, row_ids(images), "test.csv"))
    return ids


def write_sample(folder: str | Path, image_ids: Iterable[str]) -> None:
    """Write ``folder/sample_submission.csv`` for these test images."""
    write_table(Path(folder) / SAMPLE_SUBMISSION, ("id", "mask_rle"), [(row, "-1") for row in row_ids(image_ids)])


def compare_ids(path: Path, found: Sequence[str], expected: Sequence[str], source: str) -> list[Fault]:
    """Return the faults of the table ``path`` with ids ``found`` where ``source`` expects others, in any order."""
    counts, required = Counter(found), dict.fromkeys(expected)
    add, remove = f"Add the rows that {source} asks for.", f"Remove the rows that {source} does not ask for."
    return [
        *(Fault(path, f"no row {shortened(i)} (expected by {source})", add) for i in required if i not in counts),
        *(Fault(path, f"row {shortened(i)} (unknown to {source})", remove) for i in counts if i not in required),
        *_repeated(path, counts),
    ]


def _repeated(path: Path, counts: Counter) -> list[Fault]:
    remedy = "Give each row a unique id."
    return [Fault(path, f"id {shortened(i)} in {n} rows (expected: one)", remedy) for i, n in counts.items() if n > 1]


def _locate(folder: str | Path, splits: Sequence[str]) -> Path:
    """Return the folder if it holds at least one of the splits' tables, and refuse it otherwise."""
    folder = Path(folder)
    if not splits or not set(splits) <= set(SPLITS):
        raise InputError(f"splits: {splits} (expected: some of {', '.join(SPLITS)})")
    tables = [f"{name}.csv" for name in splits]
    expected = f"expected: a folder with {', '.join(tables)}"
    if folder.is_file():
        raise InputError(Fault(folder, f"a file ({expected})", f"Pass its folder, {folder.parent}."))
    if not folder.is_dir():
        found = f"no such folder, looked in {folder.absolute().parent} ({expected})"
        raise InputError(Fault(folder, found, "Unpack the data set there or pass its folder."))
    if not any((folder / table).is_file() for table in tables):
        nested = [d for d in folder.iterdir() if d.is_dir() and all((d / table).is_file() for table in tables)]
        remedy = f"Pass {nested[0]}, which has them." if len(nested) == 1 else "Pass the folder that has them."
        raise InputError(Fault(folder, f"none of these tables, looked in {folder.absolute()} ({expected})", remedy))
    return folder


def _parse_split(folder: Path, name: str) -> tuple[list[Item], list[Fault]]:
    path, columns = folder / f"{name}.csv", SPLITS[name]
    items, faults = [], []
    rows = read_table(path, columns)[list(columns)].itertuples(index=False)
    for line, (image_id, *files) in enumerate(rows, start=2):
        if not all((image_id, *files)):
            faults.append(Fault(path, f"line {line} has a blank cell", f"Fill in {', '.join(columns)}."))
        elif control := [cell for cell in (image_id, *files) if any(ord(c) < 32 or ord(c) == 127 for c in cell)]:
            found = f"line {line} has a control character in '{shortened(control[0])}'"
            faults.append(Fault(path, found, "Remove it and rename the file."))
        elif Path(image_id).name != image_id or image_id[0] == "." or len(image_id.encode()) > _ID_BYTES:
            expected = f"a plain file name, not hidden, at most {_ID_BYTES} bytes"  # results are named after it
            found = f"line {line}: id '{shortened(image_id)}' (expected: {expected})"
            faults.append(Fault(path, found, "Rename the id."))
        else:
            items.append(Item(image_id, *(find(folder, file) for file in files)))
    return items, faults + _repeated(path, Counter(item.id for item in items))


def find(folder: Path, name: str) -> Path:
    """Return ``folder / name``; each part in the composed or decomposed Unicode form that exists there.

    A Mac stores "é" as two characters; a table may hold one.
    """
    path = folder / name
    with suppress(OSError):
        if name.isascii() or path.exists():
            return path
        found = folder
        for part in Path(name).parts:
            forms = (part, unicodedata.normalize("NFC", part), unicodedata.normalize("NFD", part))
            found = next((found / form for form in forms if (found / form).exists()), found / part)
        return found
    return path


@dataclass(frozen=True)
class Report:
    """Result of :func:`check` for a sound data set; as text: "no faults", counts, sizes, class shares, warnings."""

    folder: Path
    sizes: dict[str, Counter]
    """Number of images of each (width, height), per split."""
    shares: dict[str, dict[str, float]]
    """Share (0-1) of the pixels by class name, and under "unlabelled", per labelled split."""
    warnings: tuple[str, ...]
    """One sentence each on what is allowed, but rarely meant."""

    def __str__(self) -> str:
        lines = [f"{self.folder}: no faults"]
        for split, counts in self.sizes.items():
            sizes = ", ".join(f"{n} of {w}×{h}" for (w, h), n in counts.most_common())
            labels = " with labels" if split in self.shares else ""
            lines.append(f"{split}: {counts.total()} images{labels}, {sizes} (width×height)")
            if split in self.shares:
                lines.append("  " + ", ".join(f"{name} {share:.3f}" for name, share in self.shares[split].items()))
        return "\n  ".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])


def check(folder: str | Path, splits: Sequence[str] = tuple(SPLITS), classes: int = len(CLASSES)) -> Report:
    """Read all tables and files of the splits, with a progress bar; raise one InputError that names all faults.

    Labels have class ids below ``classes``. The split ``test`` includes ``sample_submission.csv``.
    """
    folder = _locate(folder, splits)
    faults: list[Fault] = []
    items: dict[str, list[Item]] = {}
    for split in splits:
        items[split], found = attempt(faults, _parse_split, folder, split) or ([], [])
        faults += found
    if items.get("test"):
        path = folder / SAMPLE_SUBMISSION
        table = attempt(faults, read_table, path, ("id", "mask_rle"))
        if table is not None:
            faults += compare_ids(path, table["id"].tolist(), row_ids(i.id for i in items["test"]), "test.csv")

    def check_item(item: Item) -> contents.Row:
        image, label = attempt(faults, check_image, item.image, decoder), None
        if item.label and (label := attempt(faults, load_label, item.label)) is not None:
            if found := odd_values(label.ids, classes):
                faults.append(Fault(item.label, found, "Re-export the label as class ids."))
            height, width = label.ids.shape
            if image and image.size != (width, height):
                found = f"{width}×{height}, but its image {item.image.name} is {image.size[0]}×{image.size[1]}"
                faults.append(Fault(item.label, found, "Re-export the label in the image's size."))
        return contents.Row(
            item.id, item.image, image, item.label, label and value_counts(label.ids), label and used_colours(label)
        )

    everything = [item for rows in items.values() for item in rows]
    with JpegDecoder(len(everything)) as decoder:
        checked = iter(in_threads(check_item, everything, "check"))
    rows = {split: [next(checked) for _ in of_split] for split, of_split in items.items()}
    faults += contents.faults(folder, rows)
    raise_faults(folder, sorted(set(faults), key=str))
    sizes = {split: Counter(row.image.size for row in of_split if row.image) for split, of_split in rows.items()}
    return Report(folder, sizes, contents.shares(rows, classes), tuple(contents.warnings(rows, classes)))
