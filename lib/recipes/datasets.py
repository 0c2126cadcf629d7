"""The kinds of data set that a recipe can train on: the competition's, and those of public checkpoints."""

from dataclasses import dataclass
from pathlib import Path

from lib.dataset.classes import CLASSES, CLASSES_WITH_BACKGROUND
from lib.errors import InputError


@dataclass(frozen=True)
class Kind:
    """A kind of data set; the entries with defaults describe the layout that mmseg expects."""

    classes: int
    scored: int  # classes in the mean IoU, from the first on
    windows: bool  # images are wide and tested in overlapping windows, not whole
    type: str = ""  # mmseg's name
    images: str = ""
    labels: str = ""
    splits: tuple[str, str] = ("", "")  # folders in images and labels of the training and the validation split


DATA = {
    "competition": Kind(len(CLASSES_WITH_BACKGROUND), len(CLASSES), True),
    "cityscapes": Kind(19, 19, True, "CityscapesDataset", "leftImg8bit", "gtFine", ("train", "val")),
    "ade20k": Kind(150, 150, False, "ADE20KDataset", "images", "annotations", ("training", "validation")),
}


def entry(kind: str, folder: Path, split: str) -> dict:
    """Return the config of mmseg's data set, without its pipeline; ``split``: ``train_source`` or ``val_source``.

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
