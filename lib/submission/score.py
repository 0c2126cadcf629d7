"""The score of a submission: IoU per class over all pixels of all images together."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lib.dataset import image_files, layout
from lib.dataset.classes import CLASSES, IGNORE
from lib.diagnostics.metrics import confusion_matrix, iou
from lib.errors import Fault, InputError, attempt, raise_faults, shortened
from lib.submission.run_length import last_pixel
from lib.submission.table import COLUMNS, SIZE, decode_row, per_image, read_mask


def score_submission(
    submission: str | Path, labels: str | Path, submission_size: tuple[int, int] | None = None
) -> pd.Series:
    """Return IoU (0-1) by class name, NaN for a class that no label shows; then ``mIoU``, the mean of the others.

    Pixels labelled IGNORE do not count. On pixels labelled Background every prediction is a false positive.

    Args:
        submission: CSV with the rows of the labels' images, in any order.
        labels: folder with ``<id>.png`` per image, class ids with Background or IGNORE, of any size.
        submission_size: (width, height) of the submission's masks, to which labels are resized; None: the labels' own
            size or :data:`lib.submission.table.SIZE`, where only one of them holds every run.

    Raises:
        InputError: missing or faulty labels, rows that do not belong to them, malformed rows, a wrong or unclear size.
    """
    submission, labels = Path(submission), Path(labels)
    table = layout.read_table(submission, COLUMNS, exact=True)
    images = _labelled_images(submission, table["id"].tolist(), labels)
    size = submission_size or _infer_size(submission, table["mask_rle"], labels, images)
    runs = dict(zip(table["id"], table["mask_rle"], strict=True))

    def count(image_id: str) -> np.ndarray:
        """Return a confusion matrix per class, ``int64 (classes, 2, 2)``: rows may overlap, so each stands alone."""
        label = read_mask(labels / f"{image_id}.png", size)
        counted = label != IGNORE
        predicted = [decode_row(submission, row, runs[row], size) for row in layout.row_ids([image_id])]
        return np.stack([confusion_matrix((label == c)[counted], p[counted], 2) for c, p in enumerate(predicted)])

    confusion = np.sum(per_image(count, images, submission.parent, "score"), axis=0)
    scores = pd.Series([iou(matrix)[1] for matrix in confusion], index=pd.Index(CLASSES, name="class"))
    return pd.concat([scores, pd.Series({"mIoU": scores.mean()})])


def _labelled_images(submission: Path, rows: Sequence[str], labels: Path) -> list[str]:
    """Return the ids of the labels, which have to be those of the submission's rows."""
    images = _png_ids(labels)
    expected = dict.fromkeys(row.rpartition("_class_")[0] or row for row in rows)
    missing, unknown = [i for i in expected if i not in images], [i for i in images if i not in expected]
    if missing or unknown:
        found = f"no {shortened(missing[0])}.png" if missing else f"holds {unknown[0]}.png, of no row"
        if not images:
            found += ", no PNG at all" if labels.is_dir() else ", no such folder"
        below = [folder for depth in ("*/", "*/*/") for folder in labels.glob(depth) if _has_labels(folder, expected)]
        place = f"{below[0]}, which has labels" if len(below) == 1 else "the folder with their labels"
        raise InputError(Fault(labels, f"{found} (expected: <id>.png of the images in {submission})", f"Pass {place}."))
    raise_faults(submission.parent, layout.compare_ids(submission, rows, layout.row_ids(images), str(labels)))
    return images


def _png_ids(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("[!.]*.png"))  # a Mac puts "._" files beside them


def _has_labels(folder: Path, images: Mapping[str, None]) -> bool:
    first = folder / f"{next(iter(images))}.png"
    return images.keys() <= set(_png_ids(folder)) and attempt([], read_mask, first, SIZE) is not None


def _infer_size(submission: Path, runs: Sequence[str], labels: Path, images: Sequence[str]) -> tuple[int, int]:
    """Return the only size that holds every run, the labels' or the competition's, or raise InputError."""
    remedy = "Give the size of the submitted masks (--size WIDTH HEIGHT)."
    sizes = set(per_image(lambda i: image_files.image_size(labels / f"{i}.png"), images, labels, "label sizes"))
    if len(sizes) > 1:
        found = f"labels of {len(sizes)} sizes, such as {_words(min(sizes))} and {_words(max(sizes))}"
        raise InputError(Fault(labels, found, f"{remedy[:-1]}, or pass a folder with labels of one size."))
    last, own = max(map(last_pixel, runs)), sizes.pop()
    if not last:  # no class anywhere, at any size
        return own
    fitting = [size for size in dict.fromkeys((own, SIZE)) if last <= math.prod(size)]
    # Masks whose second half shows nothing are more likely of a third size.
    if len(fitting) == 1 and 2 * last > math.prod(fitting[0]):
        return fitting[0]
    found = f"its runs fit masks of {_words(own)} (the labels' size) and of {_words(SIZE)} (the competition's)"
    if not fitting:
        found = f"a run ends at pixel {last}, beyond the labels' {_words(own)} and the competition's {_words(SIZE)}"
    elif len(fitting) == 1:
        found = f"its runs end at pixel {last}, in the first half of masks of {_words(fitting[0])}"
    raise InputError(Fault(submission, found, remedy))


def _words(size: tuple[int, int]) -> str:
    return "×".join(map(str, size))
