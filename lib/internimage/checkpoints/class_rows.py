"""Which row of a trained classifier stands for which class of another data set.

A head for other classes is the same network but for the rows of its classifier. A row whose class both data sets know
carries over; where several classes there make one here (building and wall: Construction), the most frequent one's.
"""

from __future__ import annotations

from collections.abc import Sequence

from lib.dataset.classes import CLASSES_WITH_BACKGROUND
from lib.errors import InputError

LAYERS = ("conv_seg", "cls_embed", "head")
"""Layers with one row per class: of mmseg's heads, of Mask2Former (and one row for no object), of classification."""

_DATA_SETS = {"cityscapes": "cityscapes", "ade20k": "ade20k", "mapillary": "mapillary_v1"}
"""Our name of a data set to that of its class list in mmseg."""

# The public UperNet and SegFormer networks for Cityscapes and Mapillary kept the 150 rows of ADE20K, of which the first
# ones stand for the data set's classes.
_LEFT_AT = 150

_SAME = (
    ("construction", "building"),
    ("nature", "vegetation", "tree"),
    ("traffic sign", "traffic sign (front)", "signboard"),
    ("rider", "bicyclist"),
    ("background", "ego vehicle"),
)


def is_classifier(name: str) -> bool:
    """Whether a weight or bias has one row per class."""
    parts = name.split(".")
    return len(parts) > 1 and parts[-2] in LAYERS


def names_of(data_set: str | Sequence[str]) -> tuple[str, ...]:
    """Class names of a data set by its name, or the given ones.

    Raises:
        InputError: a name that is not known.
    """
    if not isinstance(data_set, str):
        return tuple(map(str, data_set))
    if data_set == "competition":
        return CLASSES_WITH_BACKGROUND
    if data_set not in _DATA_SETS:
        known = ", ".join(sorted([*_DATA_SETS, "competition"]))
        raise InputError(f"classes: {data_set!r} (expected one of {known}, a list of class names, or [] for none)")
    from mmseg.utils import get_classes

    return tuple(get_classes(_DATA_SETS[data_set]))


def own_names(rows: int) -> tuple[str, ...] | None:
    """Class names of a network with that many classes; ``None``: no data set with so many is known."""
    for data_set in ("competition", *_DATA_SETS):
        if len(names_of(data_set)) == rows:
            return names_of(data_set)
    return None


def origins(own: Sequence[str], theirs: Sequence[str]) -> list[int | None]:
    """For each of ``own`` classes the row in ``theirs`` that stands for it; ``None``: there is none."""
    rows = {_plain(name): row for row, name in reversed(list(enumerate(theirs)))}
    return [next((rows[name] for name in _called(_plain(name)) if name in rows), None) for name in own]


def _called(name: str) -> list[str]:
    return [name, *(other for group in _SAME if name in group for other in group)]


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ")


def merge(name: str, own, theirs, classes: Sequence[str]) -> tuple[object, dict[str, str | None]]:
    """A classifier's weight or bias, with the rows of ``theirs`` where classes correspond and of ``own`` elsewhere.

    Args:
        name: of the weight.
        own: tensor of the network, one row per class; may be on the meta device.
        theirs: tensor of the file.
        classes: names of the file's rows; none: no row carries over.

    Returns:
        The tensor, and for each own class the one it comes from (``None``: it starts anew).

    Raises:
        InputError: not as many names as rows, or a network whose own classes are not known.
    """
    extra = int(name.split(".")[-2] == "cls_embed")  # the last row: no object
    rows = len(theirs) - extra
    if classes and rows != len(classes) and not (rows == _LEFT_AT and len(classes) < rows):
        raise InputError(
            f"classes: {len(classes)} names for a classifier of {rows} rows ({name}); name the data set that the "
            "checkpoint was trained on."
        )
    names = own_names(len(own) - extra)
    if names is None and classes:
        raise InputError(
            f"classes: no names are known for a network of {len(own) - extra} classes; pass [] to start its classifier anew."
        )
    names = names or [str(row) for row in range(len(own) - extra)]
    found = origins(names, classes)
    merged = own.detach().clone()
    if not merged.is_meta:
        for row, origin in enumerate(found):
            if origin is not None:
                merged[row] = theirs[origin]
        if extra:
            merged[-1] = theirs[-1]
    return merged, {ours: None if row is None else classes[row] for ours, row in zip(names, found, strict=True)}
