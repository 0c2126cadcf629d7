"""Changed inputs of finished stages: each is named, and its stage is neither called done nor continued."""

import csv
import functools
import os
from collections.abc import Callable
from pathlib import Path

from lib import recipes
from lib.dataset import layout
from lib.dataset.image_files import write_png
from lib.files import digest, write_yaml
from lib.options import Options
from lib.run import Run
from lib.stages.augment import AugmentOptions
from lib.stages.infer import InferOptions
from lib.stages.submit import SubmitOptions
from lib.stages.train import TrainOptions
from tests.builders import classes_label, photo
from tests.faults.outcome import refused

_ORDER = ("augment", "train", "infer", "submit")


def _data(folder: Path) -> Path:
    """Write a data set of two small images per split."""
    for number, (split, columns) in enumerate(layout.SPLITS.items()):
        rows = []
        for index in range(2):
            row = [f"{split}_{index}", f"./{split}_image/{index}.png"]
            write_png(folder / row[1], photo(10 * number + index))
            if "gt_path" in columns:
                row.append(f"./{split}_gt/{index}.png")
                write_png(folder / row[2], classes_label(10 * number + index))
            rows.append(row)
        layout.write_table(folder / f"{split}.csv", columns, rows)
    layout.write_sample(folder, [f"test_{index}" for index in range(2)])
    return folder


def _run(folder: Path) -> dict[str, Options]:
    """Write a run whose stages are recorded as finished; return their options."""
    data, out = _data(folder / "data"), folder / "run"
    run, own = Run(out), folder / "own.py"
    write_yaml(folder / "cameras.yaml", {"source": 1, "target": 2})
    (folder / "start.pth").write_bytes(b"start")
    own.write_text(recipes.load("demo").pretty_text)
    for name in ("iter_1.pth", "best_mIoU_iter_1.pth"):
        (run.train / name).parent.mkdir(parents=True, exist_ok=True)
        (run.train / name).write_bytes(b"weights")
    options: dict[str, Options] = {
        "augment": AugmentOptions(data=data, out=out, cameras_file=folder / "cameras.yaml"),
        "train": TrainOptions(out=out, recipe=own, load_from=folder / "start.pth"),
        "infer": InferOptions(data=data, out=out, checkpoint=[run.train / "best_mIoU_iter_1.pth"]),
        "submit": SubmitOptions(data=data, out=out),
    }
    kept = {path: path.read_bytes() for path in run.train.iterdir()}
    for path in kept:
        path.unlink()
    for stage in _ORDER:
        if stage != "submit":
            run.claim(stage, options[stage])
        for path, content in kept.items() if stage == "train" else ():
            path.write_bytes(content)
        if stage == "infer":
            for item in layout.read_split(data, "test"):
                write_png(run.masks / f"{item.id}.png", classes_label())
                (run.visualization / f"{item.id}.jpg").parent.mkdir(exist_ok=True)
                (run.visualization / f"{item.id}.jpg").touch()
        if stage == "augment":
            for split in ("train_source", "val_source", "train_target"):
                items = layout.read_split(data, split)
                rows = [[i.id, i.image.resolve(), i.label and i.label.resolve()] for i in items]
                layout.write_table(run.augmented / f"{split}.csv", ("id", "img_path", "gt_path"), rows)
        run.submission.touch()
        with run.recorded(stage, options[stage]) as results:
            results["digest"] = digest(run.submission)
    for stage in _ORDER:
        assert run.is_done(stage, options[stage]) and not run.changes(stage, options[stage]), stage
    return options


def _noticed(stage: str, naming: str, change: Callable[[Path], None], folder: Path) -> None:
    options = _run(folder)[stage]
    change(folder)
    run = Run(folder / "run")
    assert not run.is_done(stage, options), "still done"
    assert naming in run.changes(stage, options), f"not named: {run.changes(stage, options)!r}"
    if stage != "submit":  # which is written anew in any case
        refused(run.claim, stage, options, naming=naming)


def _corrected(name: str) -> Callable[[Path], None]:
    """Change one byte in place; size and time of modification stay."""

    def change(folder: Path) -> None:
        path = folder / name
        status, content = path.stat(), bytearray(path.read_bytes())
        content[-1] ^= 1
        with path.open("r+b") as file:
            file.write(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    return change


def _replaced(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        write_png(folder / name, photo(99))

    return change


def _removed(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _reordered(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        header, *rows = csv.reader((folder / name).open())
        layout.write_table(folder / name, header, rows[::-1])

    return change


def _recipe(folder: Path) -> None:
    own = folder / "own.py"
    own.write_text(own.read_text().replace("max_iters = 200", "max_iters = 201"))


def _augmented_again(folder: Path) -> None:
    """Run stage 01 again, alone, with another seed; it would write other images."""
    options = AugmentOptions(data=folder / "data", out=folder / "run", seed=7)
    run = Run(folder / "run")
    tables = {path: path.read_bytes() for path in run.augmented.glob("*.csv")}
    run.claim("augment", options, overwrite=True)
    for path, content in tables.items():
        path.write_bytes(content)
    with run.recorded("augment", options):
        pass


_CHANGES: dict[str, tuple[str, str, Callable[[Path], None]]] = {
    "a label corrected in place": ("augment", "train_source_gt/1.png", _corrected("data/train_source_gt/1.png")),
    "a validation label corrected": ("augment", "val_source_gt/0.png", _corrected("data/val_source_gt/0.png")),
    "a source image replaced": ("augment", "train_source_image/0.png", _replaced("data/train_source_image/0.png")),
    "a target frame replaced": ("augment", "train_target_image/0.png", _replaced("data/train_target_image/0.png")),
    "a label removed": ("augment", "train_source_gt/1.png", _removed("data/train_source_gt/1.png")),
    "rows of train_source.csv in another order": ("augment", "train_source.csv", _reordered("data/train_source.csv")),
    "rows of train_target.csv in another order": ("augment", "train_target.csv", _reordered("data/train_target.csv")),
    "camera file changed": ("augment", "cameras.yaml", _corrected("cameras.yaml")),
    "an augmented image replaced": ("train", "0.png", _replaced("data/train_source_image/0.png")),
    "an augmented label corrected": ("train", "1.png", _corrected("data/val_source_gt/1.png")),
    "stage 01 run again alone": ("train", "augmented", _augmented_again),
    "recipe file changed": ("train", "recipe", _recipe),
    "start weights changed": ("train", "load_from", _corrected("start.pth")),
    "a test image replaced": ("infer", "test_image/0.png", _replaced("data/test_image/0.png")),
    "a test image corrected in place": ("infer", "test_image/1.png", _corrected("data/test_image/1.png")),
    "rows of test.csv in another order": ("infer", "test.csv", _reordered("data/test.csv")),
    "checkpoint changed": ("infer", "iter_1.pth", _corrected("run/train/best_mIoU_iter_1.pth")),
    "rows of sample_submission.csv in another order": (
        "submit",
        "other tables, images or masks",
        _reordered("data/sample_submission.csv"),
    ),
    "a test image replaced after stage 03": (
        "submit",
        "other tables, images or masks",
        _replaced("data/test_image/0.png"),
    ),
    "a mask changed": ("submit", "other tables, images or masks", _corrected("run/masks/test_0.png")),
}

CASES: dict[str, Callable[[Path], None]] = {
    name: functools.partial(_noticed, *change) for name, change in _CHANGES.items()
}
