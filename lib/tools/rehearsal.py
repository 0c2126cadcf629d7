"""A data set whose target labels are known, made from one where they are not: to see what to expect of one's own data.

``python -m lib.tools.rehearsal --data DIR --out DIR`` holds out four of five validation images and shows them through the
target camera: the lens, the surroundings, the colours and the noise found in the target's frames, one lens for all,
as wide as the target's view (120 degrees at most). In turn they become ``train_target`` and ``test``, their labels
go to ``withheld/``; the training images stay where and as they are. What it can't show is how well the kind of lens
suits: the images were bent by the same formula that training will use, though at a size that training doesn't know.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from lib.dataset import image_files, layout
from lib.dataset.classes import BACKGROUND, IGNORE
from lib.errors import InputError
from lib.files import read_yaml, whole_file, write_yaml
from lib.parallel import in_threads
from lib.stages.augment import AugmentOptions, augment
from lib.synthesis.params import AugmentParams
from lib.synthesis.source_fov import MAX_FILL_FOV_RAD, horizontal_fov
from lib.synthesis.target_camera import TargetCamera

KEPT = 5
"""Every fifth validation image stays one."""
_SPLITS = ("train_target", "test")


def rehearse(data: str | Path, out: str | Path, *, seed: int = 0) -> Path:
    """Write the data set into ``out``.

    Args:
        data: data set in the competition's layout.
        out: folder of the new one, not there yet or of the same rehearsal; ``withheld/camera`` keeps what was found of
            the target.
        seed: of noise, blur and colours; the same seed gives the same files.

    Returns:
        ``out`` as a path.

    Raises:
        InputError: faulty data, fewer than 3 validation images, no lens to be found in the target's frames, or
            something else in ``out``.
    """
    out, note = Path(out), {"rehearsal": str(Path(data).resolve()), "seed": seed}
    layout.check(data, ("train_source", "val_source", "train_target"))
    validation = layout.read_split(data, "val_source")
    if len(validation) < 3:
        raise InputError(f"val_source: {len(validation)} images (expected: 3 or more, to hold some of them out)")
    if out.is_file() or (out.exists() and any(out.iterdir()) and read_yaml(out / "parameters.yaml") != note):
        raise InputError(f"{out} holds something else (expected: a new folder, or one of the same data and seed)")
    with tempfile.TemporaryDirectory() as folder:
        target = TargetCamera.read(augment(AugmentOptions(data=data, out=folder, copies=0)))
    if target.lens is None:
        raise InputError("The target's frames say too little of its lens: there is nothing to rehearse with.")
    write_yaml(out / "parameters.yaml", note)
    target.write(out / "withheld" / "camera")
    wide = min(MAX_FILL_FOV_RAD, horizontal_fov(target.lens, target.overlay.mask))
    target = replace(target, source_fov=(wide, wide), motion=False, mirror=False)
    held = [item for number, item in enumerate(validation) if number % KEPT]
    rng = np.random.default_rng(seed)
    # One camera: what chance may still decide is the weather.
    draws = [
        replace(AugmentParams.sample(rng), fov=0.5, zoom=0.5, k1_offset=0.0, vignette=0.0, jpeg=101.0) for _ in held
    ]
    names = [f"{_SPLITS[number % 2].upper()}_{number // 2:04d}" for number in range(len(held))]

    def show(job: tuple[str, layout.Item, AugmentParams]) -> None:
        name, item, params = job
        split = name.rpartition("_")[0].lower()
        image, label = target.transform(image_files.read_image(item.image), image_files.read_label(item.label), params)
        label[label == BACKGROUND] = IGNORE
        image_files.write_png(out / f"{split}_image" / f"{name}.png", image)
        image_files.write_png(out / "withheld" / f"{split}_gt" / f"{name}.png", label)

    in_threads(show, list(zip(names, held, draws, strict=True)), "rehearsal")
    rows: dict[str, list[tuple]] = {
        split: [(name, f"./{split}_image/{name}.png") for name in names[number::2]]
        for number, split in enumerate(_SPLITS)
    }
    for split, items in (("train_source", layout.read_split(data, "train_source")), ("val_source", validation[::KEPT])):
        rows[split] = [(item.id, item.image.resolve(), item.label.resolve()) for item in items]
    for split, found in rows.items():
        _write(out / f"{split}.csv", ("id", "img_path", "gt_path")[: len(found[0])], found)
    ids = layout.row_ids([name for name, _ in rows["test"]])
    _write(out / "sample_submission.csv", ("id", "mask_rle"), [(row, "-1") for row in ids])
    return out


def _write(path: Path, columns: tuple[str, ...], rows: list[tuple]) -> None:
    with whole_file(path) as temporary:
        pd.DataFrame(rows, columns=columns).to_csv(temporary, index=False)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code. Bad input ends in one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m lib.tools.rehearsal", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="data set in the competition's layout")
    parser.add_argument("--out", type=Path, required=True, help="folder of the new one")
    parser.add_argument("--seed", type=int, default=0, help="of noise and colours")
    asked = parser.parse_args(arguments)
    try:
        out = rehearse(asked.data, asked.out, seed=asked.seed)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    counts = ", ".join(
        f"{len(layout.read_split(out, split))} {split}" for split in ("train_source", "val_source", *_SPLITS)
    )
    print(f"{out}: {counts}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
