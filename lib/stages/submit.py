"""Stage 04: write the submission from the masks and check it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
from annotated_types import Ge, Le, Len

from lib.dataset import layout
from lib.errors import Fault, InputError
from lib.files import digest
from lib.options import Options, option
from lib.run import Run, alone
from lib.submission import masks
from lib.submission.table import SIZE, write_submission

Side = Annotated[int, Ge(1), Le(2**15 - 1)]  # OpenCV's limit


@dataclass(frozen=True, kw_only=True)
class SubmitOptions(Options):
    """Options of stage 04."""

    data: str = option("../data/sample", "data set in the competition's layout", identity=False)
    out: str = option("../outputs/demo", "run folder, with the masks of 03_infer", identity=False)
    submission_size: Annotated[list[Side], Len(2, 2)] = option(
        list(SIZE), "width and height of the submitted masks", expected="width and height in pixels, such as [960, 540]"
    )
    stretch_masks: bool = option(
        False, "allow a submission_size of other proportions than the test images", identity=False
    )
    other_data: bool = option(False, "accept another data set than the masks were made from", identity=False)

    def inputs(self) -> dict[str, str]:
        """Return the digests of the tables and masks that the submission is made from, and of the images it is for."""
        run, data = Run(self.out), Path(self.data)
        images = [item.image for item in layout.read_split(data, "test")]
        tables = run.digests([data / "test.csv", data / "sample_submission.csv", *images], data)
        return tables | run.digests(sorted(run.masks.glob("[!.]*.png")), run.folder)

    def is_whole(self) -> bool:
        """Return whether the submission is the file that was checked."""
        run = Run(self.out)
        return digest(run.submission) == (run.entry("submit") or {}).get("results", {}).get("digest")


@alone
def submit(options: SubmitOptions) -> tuple[Path, pd.DataFrame]:
    """Write ``submission.csv`` from the masks in the run folder; return it with its class frequencies.

    An earlier submission is replaced; one of another size is mentioned.

    Raises:
        InputError: tables, masks or a size that do not belong together; an earlier submission is kept.
    """
    run = Run(options.out)
    check_masks(options)
    width, height = options.submission_size
    entry = run.entry("submit")
    former = entry["parameters"]["submission_size"] if entry else options.submission_size
    if run.submission.exists() and former != options.submission_size:
        earlier = "{}×{}".format(*former)
        print(f"{run.submission}: masks of {earlier} are replaced by masks of {width}×{height}", flush=True)
    with run.recorded("submit", options) as results:
        frequencies = write_submission(run.submission, run.masks, options.data, (width, height))
        results.update(submission=run.submission.name, digest=digest(run.submission))
    return run.submission, frequencies


def check_masks(options: SubmitOptions) -> None:
    """Raise InputError for faulty tables, a stretched size, and masks that are missing, odd or of other images."""
    layout.read_sample(options.data)
    folder = Run(options.out).masks
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist. Run 03_infer for this run folder first.")
    check_images(options)
    masks.check_masks(folder, check_size(options))


def check_images(options: SubmitOptions) -> None:
    """Raise InputError where the test images of ``data`` are not those of the masks, unless ``other_data`` is set."""
    run = Run(options.out)
    known = run.made_from("infer")
    images = run.digests([item.image for item in layout.read_split(options.data, "test")], options.data)
    other = [name for name, value in images.items() if value != known.get(name)]
    if known and other and not options.other_data:
        made_from = (run.entry("infer") or {}).get("results", {}).get("data", "another data set")
        found = f"{len(other)} of {len(images)} test images, such as {other[0]}, are not those of {made_from} that"
        remedy = "Correct data, run 03_infer for it, or pass other_data=True (-p other_data true)."
        raise InputError(Fault(options.data, f"{found} {run.masks} was made from", remedy))


def check_size(options: SubmitOptions) -> dict[str, tuple[int, int]]:
    """Return the test images' sizes by id; raise InputError for another proportion of the masks, unless allowed."""
    sizes = masks.image_sizes(options.data)
    if not options.stretch_masks:
        width, height = options.submission_size
        masks.check_proportions((width, height), sizes.values())
    return sizes
