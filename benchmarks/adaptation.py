"""Gains of each step of the adaptation: one row per step, with the same network and number of iterations.

``python benchmarks/adaptation.py --data DIR`` runs the stages (augment, train, infer, submit) for every row, in its
run folder ``outputs/adaptation/<set>/<row>-<seed>/``, up to a ``submission.csv``. A row consists of parameters of the
stages. Scores come from the test labels where the set has them (``withheld/test_gt``), and always from a visible
proxy: the source's augmented validation images, the same for every row. Only this file reads withheld labels: to
score, and to train the row "target's own labels", an upper bound. Finished rows are skipped, interrupted ones
continue. Writes ``benchmarks/results/adaptation-<set>.json``; the names of folder and file contain ``--warm-start``
where it is not the default.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tables import RESULTS, TITLES, adaptation, gap_closed

from lib import sample
from lib.dataset import image_files, layout
from lib.dataset.classes import CLASSES
from lib.errors import InputError
from lib.files import read_yaml, whole_file, write_yaml
from lib.options import Options, option
from lib.run import Run
from lib.stages.augment import AugmentOptions, augment
from lib.stages.infer import InferOptions, infer
from lib.stages.submit import SubmitOptions, submit
from lib.stages.train import TrainOptions, train
from lib.submission.score import score_submission

ROOT = Path(__file__).parents[1]
SAMPLE = dict(source=160, val=8, target=100, test=40, size=(480, 270))
WARM_START = 1000


@dataclass(frozen=True)
class Row:
    """The options of the stages that make a row; its title is in ``tables.TITLES``."""

    augment: dict = field(default_factory=dict)
    train: dict = field(default_factory=dict)
    infer: dict = field(default_factory=dict)
    trained_as: str | None = None
    """Row whose training this one uses."""
    labels: bool = False
    """Whether it trains on the target's withheld labels."""


PLAIN = {"motion": False, "mirror": False, "appearance": "none"}
THREE_COPIES = {"copies": 3}
SELF_TRAINING = {"self_training": True}
TARGET_SCALE = {"scales": "target"}
TEST_TIME = TARGET_SCALE | {"flip": True, "apply_overlay": True, "min_region": 1.0}
ROWS = {
    "source": Row({"augment": False}),
    "overlay": Row({"lens": "none"} | PLAIN),
    "fixed": Row({"lens": "fixed"} | PLAIN),
    "fitted": Row(THREE_COPIES | {"appearance": "none"}),
    "photometric": Row(THREE_COPIES),
    "size": Row(THREE_COPIES, infer=TARGET_SCALE, trained_as="photometric"),
    "self-training": Row(THREE_COPIES, SELF_TRAINING, TARGET_SCALE),
    "test-time": Row(THREE_COPIES, SELF_TRAINING, TEST_TIME, trained_as="self-training"),
    "untaught": Row(THREE_COPIES, infer=TEST_TIME, trained_as="photometric"),
    "open": Row(THREE_COPIES | {"mirror": False}, SELF_TRAINING, TEST_TIME),
    "flat": Row(THREE_COPIES | {"lens": "none", "motion": False}, SELF_TRAINING, TEST_TIME),
    "oracle": Row(labels=True),
    "oracle-test-time": Row(infer=TEST_TIME | {"apply_overlay": False}, trained_as="oracle", labels=True),
}
PROXY = "photometric"
"""Row whose validation images are the visible proxy; the row of the target's labels validates on them too."""


@dataclass(frozen=True, kw_only=True)
class TargetLabels(Options):
    """Options that take the place of stage 01's for the row of the target's own labels."""

    data: str = option("", "data set with withheld labels")


class Benchmark:
    """All rows on one data set.

    Args:
        data: data set in the competition's layout, with or without ``withheld``.
        recipe, iters: recipe of every row and its iterations; None: the recipe's.
        start: iterations of the warm start on the plain source, from which all rows of a seed start; 0: none.
    """

    def __init__(self, data: Path, recipe: str, iters: int | None, start: int):
        self.data, self.recipe, self.iters, self.start = data.resolve(), recipe, iters, start
        self.name = self.data.name + (f"-start{start}" if start != WARM_START else "")
        self.folder = ROOT / "outputs" / "adaptation" / self.name
        first = image_files.read_image(layout.read_split(data, "test")[0].image)
        self.size = first.shape[1::-1]
        self.withheld = self.data / "withheld"

    def out(self, name: str, seed: int) -> Path:
        return self.folder / f"{name}-{seed}"

    def row(self, name: str, seed: int) -> dict:
        """Run one row to its end and score it, or return the result of an earlier call."""
        row, out = ROWS[name], self.out(name, seed)
        if done := self.finished(name, seed):
            return done
        if row.trained_as:
            trained = self.out(row.trained_as, seed)
            self.row(row.trained_as, seed)
        else:
            trained = out
            self._train(row, out, seed)
        result = {"parameters": self._parameters(row)} | self._predict(row, trained, out)
        result["seconds"] = {stage: entry["seconds"] for stage, entry in read_yaml(out / "run.yaml").items()}
        write_yaml(out / "result.yaml", result)
        return result

    def finished(self, name: str, seed: int) -> dict | None:
        """Return the result of a row that ran with the same parameters; None if there is none."""
        out = self.out(name, seed)
        done = read_yaml(out / "result.yaml")
        same = done.get("parameters") == self._parameters(ROWS[name]) and (out / "submission.csv").exists()
        return done if same else None

    def _parameters(self, row: Row) -> dict:
        length = {"recipe": self.recipe, "iters": self.iters, "start": self.start}
        return length | {"augment": row.augment, "train": row.train, "infer": row.infer}

    def _train(self, row: Row, out: Path, seed: int) -> None:
        if row.labels:
            self._labelled_target(out, seed)
        else:
            augment(AugmentOptions(data=self.data, out=out, **row.augment, seed=seed))
        common = dict(out=out, recipe=self.recipe, seed=seed)
        train(TrainOptions(**common, max_iters=self.iters, load_from=self._warm_start(seed), **row.train))

    def _warm_start(self, seed: int) -> Path | None:
        """Return the checkpoint that all rows of a seed start from; None without a warm start."""
        if not self.start:
            return None
        out = self.out("start", seed)
        augment(AugmentOptions(data=self.data, out=out, **ROWS["source"].augment, seed=seed))
        return train(TrainOptions(out=out, recipe=self.recipe, max_iters=self.start, seed=seed))

    def _labelled_target(self, out: Path, seed: int) -> None:
        """Write the target's frames with their labels in place of stage 01; validation is that of the adapted rows."""
        augmented = augment(AugmentOptions(data=self.data, out=self.out(PROXY, seed), **ROWS[PROXY].augment, seed=seed))
        options, run = TargetLabels(data=self.data), Run(out)
        folder = run.claim("augment", options)
        with run.recorded("augment", options) as results:
            labels = self.withheld / "train_target_gt"
            frames = layout.read_split(self.data, "train_target")
            trained = [(item.id, item.image, labels / f"{item.id}.png") for item in frames]
            validated = [(item.id, item.image, item.label) for item in layout.read_split(augmented, "val_source")]
            for split, rows in (("train_source", trained), ("val_source", validated)):
                layout.write_table(folder / f"{split}.csv", layout.SPLITS[split], rows)
                results[split] = len(rows)

    def _predict(self, row: Row, trained: Path, out: Path) -> dict:
        """Write masks and submissions of a trained row and return its scores."""
        result = {}
        proxy, proxy_labels = self._proxy()
        for data, folder, labels in ((self.data, out, self.withheld / "test_gt"), (proxy, out / "proxy", proxy_labels)):
            for part in ("augmented", "train"):
                link(folder / part, trained / part)
            checkpoint = str(Run(trained).best_checkpoint())
            infer(InferOptions(data=data, out=folder, checkpoint=checkpoint, **row.infer))
            path, _ = submit(SubmitOptions(data=data, out=folder, submission_size=self.size))
            if labels.is_dir():
                iou = score_submission(path, labels, self.size)
                result["test" if folder == out else "proxy"] = {k: round(float(v), 5) for k, v in iou.items()}
        return result

    def _proxy(self) -> tuple[Path, Path]:
        """Return the visible proxy, a data set with augmented source images as test images, and its labels' folder."""
        augmented = augment(AugmentOptions(data=self.data, out=self.out(PROXY, 0), **ROWS[PROXY].augment, seed=0))
        items = layout.read_split(augmented, "val_source")
        folder = self.folder / "proxy"
        layout.write_table(folder / "test.csv", layout.SPLITS["test"], [(item.id, item.image) for item in items])
        frames = [(item.id, item.image) for item in layout.read_split(self.data, "train_target")]
        layout.write_table(folder / "train_target.csv", layout.SPLITS["train_target"], frames)
        layout.write_sample(folder, [item.id for item in items])
        return folder, items[0].label.parent


def link(path: Path, target: Path) -> None:
    """Make ``path`` a symbolic link to ``target``, another run's folder, unless it exists."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(os.path.relpath(target, path.parent))


def write_results(benchmark: Benchmark, seeds: list[int]) -> dict:
    """Print the table of all finished rows and write the JSON."""
    rows: dict[str, dict[str, dict]] = {}
    for name in ROWS:
        for seed in seeds:
            if result := benchmark.finished(name, seed):
                rows.setdefault(name, {})[str(seed)] = {k: v for k, v in result.items() if k != "parameters"}
    summary = {
        "data": benchmark.data.name,
        "recipe": Path(benchmark.recipe).stem,
        "iters": benchmark.iters,
        "start": benchmark.start,
        "classes": CLASSES,
    }
    summary |= {"gap closed": {name: gap_closed(rows, name) for name in rows if gap_closed(rows, name)}, "rows": rows}
    with whole_file(RESULTS / f"adaptation-{benchmark.name}.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=1) + "\n")
    print(adaptation(rows))
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--data",
        type=Path,
        default=ROOT / "data" / "adaptation",
        help="default: a sample, rendered if missing",
    )
    parser.add_argument("--recipe", default=str(ROOT / "benchmarks" / "adaptation_recipe.py"))
    parser.add_argument("--iters", type=int, help="iterations of every training (default: the recipe's)")
    parser.add_argument(
        "--warm-start",
        type=int,
        default=WARM_START,
        help=f"iterations on the plain source before all rows ({WARM_START})",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    arguments = parser.parse_args()
    if not arguments.data.exists():
        sample.write(arguments.data, **SAMPLE)
    benchmark = Benchmark(arguments.data, arguments.recipe, arguments.iters, arguments.warm_start)
    try:
        for seed in arguments.seeds:
            for name in arguments.only:
                if not ROWS[name].labels or benchmark.withheld.is_dir():
                    print(f"== {TITLES[name]}, seed {seed}", flush=True)
                    benchmark.row(name, seed)
                    write_results(benchmark, arguments.seeds)
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
