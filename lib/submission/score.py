"""The score of a submission: IoU per class over all pixels of all images together."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lib.dataset import image_files, layout
from lib.dataset.classes import CLASSES, IGNORE
from lib.diagnostics.metrics import confusion_matrix, iou
from lib.errors import Fault, InputError, raise_faults
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
        submission_size: (width, height) of the submission's masks, to which labels are resized; None: the smaller of
            :data:`lib.submission.table.SIZE` and the first label's own size that holds every run.

    Raises:
        InputError: missing or faulty labels, rows that do not belong to them, malformed rows, a wrong size.
    """
    submission, labels = Path(submission), Path(labels)
    table = layout.read_table(submission, COLUMNS)
    images = sorted(path.stem for path in labels.glob("[!.]*.png"))  # a Mac puts "._" files beside them
    if not images:
        found = "no PNG, looked for the labels of the test images" if labels.is_dir() else "no such folder"
        raise InputError(Fault(labels, found, "Pass the folder with <id>.png per test image."))
    faults = layout.compare_ids(submission, table["id"].tolist(), layout.row_ids(images), str(labels))
    raise_faults(submission.parent, faults)
    runs = dict(zip(table["id"], table["mask_rle"], strict=True))
    label_size = image_files.read_label(labels / f"{images[0]}.png").shape[::-1]
    size = submission_size or _infer_size(submission, table["mask_rle"], label_size)

    def count(image_id: str) -> np.ndarray:
        """Return a confusion matrix per class, ``int64 (classes, 2, 2)``: rows may overlap, so each stands alone."""
        label = read_mask(labels / f"{image_id}.png", size)
        counted = label != IGNORE
        predicted = [decode_row(submission, row, runs[row], size) for row in layout.row_ids([image_id])]
        return np.stack([confusion_matrix((label == c)[counted], p[counted], 2) for c, p in enumerate(predicted)])

    confusion = np.sum(per_image(count, images, submission.parent, "score"), axis=0)
    scores = pd.Series([iou(matrix)[1] for matrix in confusion], index=pd.Index(CLASSES, name="class"))
    return pd.concat([scores, pd.Series({"mIoU": scores.mean()})])


def _infer_size(submission: Path, runs: Sequence[str], label_size: tuple[int, int]) -> tuple[int, int]:
    last = max(map(last_pixel, runs))
    for width, height in sorted((label_size, SIZE), key=lambda size: size[0] * size[1]):
        if last <= width * height:
            return width, height
    found = f"a run ends at pixel {last}, beyond the labels' {label_size} and the competition's {SIZE}"
    raise InputError(Fault(submission, found, "Give the size of its masks (--size WIDTH HEIGHT)."))
