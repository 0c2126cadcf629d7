"""Contents of a whole data set: faults that no single file shows, class shares, and what is rarely meant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.dataset.classes import CLASSES_WITH_BACKGROUND, IGNORE
from lib.dataset.image_files import ImageFacts
from lib.errors import Fault

_QUARTER = 1 << 14  # of a 16-bit image's range: cameras of 10, 12 or 14 bits store their values unscaled below it
_LISTED = 3  # names in a warning


@dataclass(frozen=True)
class Row:
    """One checked row: id, image and its facts, label and the number of pixels of each value, colours of its ids.

    Facts and counts are None where the file is missing or faulty.
    """

    id: str
    image_path: Path
    image: ImageFacts | None
    label_path: Path | None
    counts: np.ndarray | None
    colours: Mapping[int, tuple[int, int, int]] | None


Rows = Mapping[str, Sequence[Row]]


def faults(folder: Path, rows: Rows) -> list[Fault]:
    """Return the faults that only the whole set shows: palettes that differ, dark 16-bit images, labels of nothing."""
    found = _palette_faults([row for split in rows.values() for row in split])
    for split, of_split in rows.items():
        deep = [(row.image.largest, row.image_path) for row in of_split if row.image and row.image.largest is not None]
        largest, path = max(deep, key=lambda pair: pair[0], default=(_QUARTER, folder))
        if largest < _QUARTER:
            text = f"16-bit, but no image of {split} has a value above {largest} (expected: the range 0–65535)"
            found.append(Fault(path, text, "Scale the values to 16 bits, or convert to 8 bits."))
        if split == "train_source" and of_split and all(map(_is_unlabelled, of_split)):
            text = f"every pixel of every label is {IGNORE}, unlabelled"
            found.append(Fault(folder / f"{split}.csv", text, "Re-export the labels as class ids."))
    return found


def _palette_faults(rows: Sequence[Row]) -> list[Fault]:
    """Return the labels whose palette gives an id another colour, or a colour another id, than an earlier label's."""
    found: list[Fault] = []
    colours: dict[int, tuple[tuple[int, int, int], str]] = {}
    ids: dict[tuple[int, int, int], tuple[int, str]] = {}
    for row in rows:
        if not row.colours or not row.label_path:
            continue
        ambiguous = len(set(row.colours.values())) < len(row.colours)
        for index, colour in row.colours.items():
            known, first = colours.setdefault(index, (colour, row.label_path.name))
            other, same = (index, first) if ambiguous else ids.setdefault(colour, (index, row.label_path.name))
            if known != colour or other != index:
                text = f"palette colour {colour} at index {index}, but " + (
                    f"{known} in {first}" if known != colour else f"at index {other} in {same}"
                )
                remedy = "Re-export all labels as grey values that are class ids."
                found.append(Fault(row.label_path, f"{text} (expected: one palette)", remedy))
                break
    return found


def _is_unlabelled(row: Row) -> bool:
    return row.counts is not None and not row.counts[:IGNORE].any()


def _total(rows: Sequence[Row]) -> np.ndarray:
    """Return the number of pixels of each value in all labels, ``(256,)``; zeros without labels."""
    return np.sum([np.zeros(256), *(row.counts for row in rows if row.counts is not None)], axis=0)


def shares(rows: Rows, classes: int) -> dict[str, dict[str, float]]:
    """Return the share (0-1) of all pixels by class name, and "unlabelled", per labelled split."""
    names, totals = [*CLASSES_WITH_BACKGROUND[:classes], "unlabelled"], {s: _total(found) for s, found in rows.items()}
    return {
        split: {name: float(n / total.sum()) for name, n in zip(names, [*total[:classes], total[IGNORE]], strict=True)}
        for split, total in totals.items()
        if total.any()
    }


def warnings(rows: Rows, classes: int) -> list[str]:
    """Return one sentence per finding that is allowed, but rarely meant."""
    found = []
    for split, of_split in rows.items():
        found += [f"{split}: {text}" for text in (*_class_warnings(split, of_split, classes), *_repeated(of_split))]
    training, validation = (
        {row.image.digest: row.id for row in rows.get(split, ()) if row.image}
        for split in ("train_source", "val_source")
    )
    if leaked := sorted(validation[digest] for digest in validation.keys() & training.keys()):
        found.append(f"val_source: training images are among the validation's: {_listed(leaked)}.")
    return found


def _class_warnings(split: str, rows: Sequence[Row], classes: int) -> list[str]:
    total, found = _total(rows), []
    if not total.any():
        return []
    names = CLASSES_WITH_BACKGROUND[:classes]
    absent = [name for name, pixels in zip(names, total, strict=False) if not pixels]
    present = [name for name in names if name not in absent]
    if len(present) <= 1:
        found.append(f"all labels hold {present[0] if present else IGNORE} alone.")
    elif absent and split == "train_source":
        found.append(f"classes that never occur: {', '.join(absent)}.")
    unlabelled = [row.id for row in rows if _is_unlabelled(row)]
    if unlabelled and present:
        found.append(f"labels that hold {IGNORE} alone: {_listed(unlabelled)}.")
    return found


def _repeated(rows: Sequence[Row]) -> list[str]:
    first: dict[bytes, str] = {}
    images = [(row.id, row.image.digest) for row in rows if row.image]
    pairs = [f"{i} = {first[digest]}" for i, digest in images if first.setdefault(digest, i) != i]
    return [f"images that occur twice: {_listed(pairs)}."] if pairs else []


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
