"""Peak memory of stages 01 and 03, as the number of images grows tenfold.

``python -m tests.faults.memory infer DATA OUT`` prints that of one stage in MiB.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

from lib.dataset import layout
from tests.faults.record import Record

COUNTS = (200, 2000)
LIMIT = 0.03
"""Largest growth of the peak."""
# glibc's own thresholds move with what is freed, by which the peaks of equal runs differ by 5 %.
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
_SIZE = (480, 270)
_RENDERED = dict(source=10, val=2, target=40, test=10)


def multiply(base: Path, folder: Path, count: int) -> Path:
    """Write a data set of ``count`` images per split but validation; they are links to those of ``base``."""
    shutil.rmtree(folder, ignore_errors=True)
    for split, columns in layout.SPLITS.items():
        items, rows = layout.read_split(base, split), []
        for number in range(len(items) if split == "val_source" else count):
            item, row = items[number % len(items)], [f"{split}_{number:05d}"]
            for kind, file in (("image", item.image), ("gt", item.label)):
                if file and f"{kind}_path".replace("image", "img") in columns:
                    path = folder / f"{split}_{kind}" / f"{number:05d}{file.suffix}"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    os.link(file, path)
                    row.append(f"./{path.relative_to(folder)}")
            rows.append(row)
        layout.write_table(folder / f"{split}.csv", columns, rows)
    layout.write_sample(folder, [item.id for item in layout.read_split(folder, "test")])
    return folder


def peak_mib(stage: str, data: Path, out: Path) -> float:
    """Run a stage in a process of its own; return its largest resident memory in MiB."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "tests.faults.memory", stage, str(data), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | _ALLOCATOR)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return float(done.stdout.split()[-1])


def run(record: Record, folder: Path, counts: tuple[int, int] = COUNTS) -> None:
    """Measure both stages with few and with many images."""
    from lib.sample import write

    names = ("augment", "infer")
    for stage in record.todo(names):
        base = write(folder / "data", **_RENDERED, size=_SIZE)
        few, many = (
            peak_mib(stage, multiply(base, folder / f"data-{count}", count), folder / f"run-{count}")
            for count in counts
        )
        growth = many / few - 1
        fault = f"grows by {growth:.1%}" if growth >= LIMIT else ""
        note = f"{stage} {few:.0f} MiB → {many:.0f} MiB ({growth:+.1%})"
        record.add(stage, fault, note=note)
    record.finish(names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("stage", choices=("augment", "infer"))
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    if arguments.stage == "augment":
        from lib.stages.augment import AugmentOptions, augment

        augment(AugmentOptions(data=arguments.data, out=arguments.out))
    else:
        from lib.files import write_yaml
        from lib.stages.infer import InferOptions, infer
        from tests.builders import random_run

        random_run(arguments.out / "train", 0, (192, 108))
        write_yaml(arguments.out / "run.yaml", {"train": {"parameters": {}}})
        infer(InferOptions(data=arguments.data, out=arguments.out))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main()
