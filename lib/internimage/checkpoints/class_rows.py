"""Rows of a trained classifier, matched by class name to the classes of another data set.

Where one class here covers several there (Construction: building and wall), the most frequent one counts.
"""

from collections.abc import Sequence

from mmseg.utils import get_classes
from torch import Tensor

from lib.dataset.classes import CLASSES_WITH_BACKGROUND
from lib.errors import InputError

LAYERS = ("conv_seg", "cls_embed", "head")
"""Layers with one row per class: of mmseg's heads, of Mask2Former (plus one for no object), of classification."""

_CLASSES: dict[str, tuple[str, ...]] = {
    "cityscapes": tuple(get_classes("cityscapes")),
    "ade20k": tuple(get_classes("ade20k")),
    "mapillary": tuple(get_classes("mapillary_v1")),
    "competition": CLASSES_WITH_BACKGROUND,
}

# Public UperNet and SegFormer checkpoints for Cityscapes and Mapillary have ADE20K's 150 rows; the first ones are used.
_ADE20K_ROWS = 150

_SYNONYMS = (
    ("construction", "building"),
    ("nature", "vegetation", "tree"),
    ("traffic sign", "traffic sign (front)", "signboard"),
    ("rider", "bicyclist"),
    ("background", "ego vehicle"),
)


def is_classifier(name: str) -> bool:
    """Return whether the weight or bias of this name has one row per class."""
    return any(layer in LAYERS for layer in name.split(".")[-2:-1])


def class_names(data_set: str | Sequence[str]) -> tuple[str, ...]:
    """Return the class names of a data set, given its name or the class names themselves.

    Raises:
        InputError: unknown name.
    """
    if not isinstance(data_set, str):
        return tuple(map(str, data_set))
    if data_set not in _CLASSES:
        known = ", ".join(sorted(_CLASSES))
        raise InputError(f"classes: {data_set!r} (expected one of {known}, a list of class names, or [] for none)")
    return _CLASSES[data_set]


def match(classes: Sequence[str], file_classes: Sequence[str]) -> list[int | None]:
    """Return for each of ``classes`` its row among ``file_classes``; ``None``: there is no such class."""
    file_names = [_plain(name) for name in file_classes]
    matches = []
    for name in map(_plain, classes):
        synonyms = [name, *(other for group in _SYNONYMS if name in group for other in group)]
        matches.append(next((file_names.index(other) for other in synonyms if other in file_names), None))
    return matches


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ")


def merge(
    name: str, tensor: Tensor, file_tensor: Tensor, file_classes: Sequence[str]
) -> tuple[Tensor, dict[str, str | None]]:
    """Copy the rows of a classifier's weight or bias whose classes the file has too.

    Args:
        tensor: ``(classes, ...)``, the network's; may be on the meta device.
        file_tensor: ``(file classes, ...)``.
        file_classes: empty: no row carries over.

    Returns:
        The network's tensor with the file's rows, and for each class of the network the file's class whose row it got
        (``None``: it keeps its own).

    Raises:
        InputError: ``file_classes`` do not fit the rows, or the network's own class names are unknown.
    """
    extra = int(name.split(".")[-2] == "cls_embed")  # the last row: no object
    count, rows = len(tensor) - extra, len(file_tensor) - extra
    if file_classes and rows != len(file_classes) and not (rows == _ADE20K_ROWS and len(file_classes) < rows):
        raise InputError(
            f"classes: {len(file_classes)} names for a classifier of {rows} rows ({name}); name the data set that the "
            "checkpoint was trained on."
        )
    known = {len(names): names for names in _CLASSES.values()}
    if file_classes and count not in known:
        raise InputError(
            f"classes: no names are known for a network of {count} classes; pass [] to start its classifier anew."
        )
    classes = known.get(count) or tuple(map(str, range(count)))
    matches = match(classes, file_classes)
    merged = tensor.detach().clone()
    for row, file_row in enumerate(matches + [rows] * extra):
        if file_row is not None:
            merged[row] = file_tensor[file_row]
    return merged, {ours: row if row is None else file_classes[row] for ours, row in zip(classes, matches, strict=True)}
