"""The data sets that a recipe can train on: how many classes, how tested, how mmseg reads them.

``competition`` is the layout of :mod:`lib.dataset.layout`, which 01 writes. ``cityscapes`` and ``ade20k`` are those data
sets in the layouts that mmseg expects, for training on, or scoring, what public checkpoints were trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lib.dataset.classes import CLASSES_WITH_BACKGROUND
from lib.errors import InputError


@dataclass(frozen=True)
class Kind:
    """A kind of data set."""

    classes: int
    windows: bool
    """Its images are wide and tested in overlapping windows, not whole."""
    metric: dict
    type: str = ""
    """mmseg's name of a data set that comes as folders."""
    images: str = ""
    labels: str = ""
    splits: tuple[str, str] = ("", "")
    """Of such a data set: folders of images and labels, and in them those to train and to validate on."""


_MEAN_IOU = dict(type="IoUMetric", iou_metrics=["mIoU"])
DATA = {
    "competition": Kind(len(CLASSES_WITH_BACKGROUND), True, dict(type="ScoredIoU")),
    "cityscapes": Kind(19, True, _MEAN_IOU, "CityscapesDataset", "leftImg8bit", "gtFine", ("train", "val")),
    "ade20k": Kind(150, False, _MEAN_IOU, "ADE20KDataset", "images", "annotations", ("training", "validation")),
}


def entry(kind: str, folder: Path, split: str) -> dict:
    """What mmseg's data set is built from, but for its pipeline.

    Args:
        kind: a key of :data:`DATA`.
        folder: the data set.
        split: ``train_source`` or ``val_source``.

    Raises:
        InputError: the folder does not hold such a data set.
    """
    if kind == "competition":
        classes = dict(classes=CLASSES_WITH_BACKGROUND)
        return dict(type="CompetitionDataset", folder=str(folder), split=split, metainfo=classes)
    data = DATA[kind]
    part = data.splits[split == "val_source"]
    prefix = dict(img_path=f"{data.images}/{part}", seg_map_path=f"{data.labels}/{part}")
    for needed in prefix.values():
        if not (folder / needed).is_dir():
            raise InputError(
                f"{folder / needed}: no such folder (the recipe's {data.classes} classes are those of {kind}, and its "
                f"layout is expected); give the folder of that data set, or take a recipe without {kind} in its name."
            )
    return dict(type=data.type, data_root=str(folder), data_prefix=prefix)
