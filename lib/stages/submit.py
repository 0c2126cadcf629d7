"""Stage 04: write the submission from the masks and check it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
from annotated_types import Ge, Le, Len

from lib.dataset import layout
from lib.errors import Fault, InputError
from lib.options import Options, option
from lib.run import Run, alone
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

    other_data: bool = option(False, "accept another data set than the masks were made from", identity=False)

    def inputs(self) -> dict[str, str]:
        """Return the digests of the tables and masks that the submission is made from."""
        run, data = Run(self.out), Path(self.data)
        tables = run.digests([data / "test.csv", data / "sample_submission.csv"], data)
        return tables | run.digests(sorted(run.masks.glob("*.png")), run.folder)


@alone
def submit(options: SubmitOptions) -> tuple[Path, pd.DataFrame]:
    """Write ``submission.csv`` from the masks in the run folder; return it with its class frequencies."""
    run = Run(options.out)
    layout.read_sample(options.data)
    if not run.masks.is_dir():
        raise InputError(f"{run.masks} does not exist. Run 03_infer for this run folder first.")
    check_images(options)
    with run.recorded("submit", options) as results:
        width, height = options.submission_size
        frequencies = write_submission(run.submission, run.masks, options.data, (width, height))
        results["submission"] = run.submission.name
    return run.submission, frequencies


def check_images(options: SubmitOptions) -> None:
    """Raise InputError where the test images of ``data`` are not those of the masks, unless ``other_data`` is set."""
    run = Run(options.out)
    known = run.made_from("infer")
    images = run.digests([item.image for item in layout.read_split(options.data, "test")], options.data)
    other = [name for name, value in images.items() if value not in known]
    if known and other and not options.other_data:
        made_from = (run.entry("infer") or {}).get("results", {}).get("data", "another data set")
        found = f"{len(other)} of {len(images)} test images, such as {other[0]}, are not those of {made_from} that"
        remedy = "Correct data, run 03_infer for it, or pass other_data=True (-p other_data true)."
        raise InputError(Fault(options.data, f"{found} {run.masks} was made from", remedy))
