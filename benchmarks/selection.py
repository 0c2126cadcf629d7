"""Criteria without labels for choosing a checkpoint, compared on the runs of ``benchmarks/adaptation.py``.

``python benchmarks/selection.py --data DIR`` scores every checkpoint of those runs on the target's unlabelled frames
(:func:`lib.prediction.selection.unsupervised_score`), runs stages 03 and 04 with it, and compares the criteria with the
true mIoU on the withheld test labels: rank and linear correlation over all checkpoints, and the mIoU of the checkpoint
that each criterion chooses. Writes ``benchmarks/results/selection-<set>.json``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from adaptation import RESULTS, ROOT, ROWS, link

from lib.dataset import image_files, layout
from lib.files import read_yaml, whole_file, write_yaml
from lib.prediction.selection import target_frames, unsupervised_score
from lib.run import Run
from lib.stages.infer import InferOptions, infer
from lib.stages.submit import SubmitOptions, submit
from lib.stages.train import scalars
from lib.submission.score import score_submission
from lib.target.estimate_overlay import estimate_overlay

CRITERIA = ("agreement", "mirror", "smaller", "certainty", "information", "validation")


def judge(data: Path, run: Path, checkpoint: Path, frames: list[Path], mask: np.ndarray) -> dict:
    """Return all criteria and the true mIoU of one checkpoint; a file of the run keeps them."""
    out = run / "checkpoints" / checkpoint.stem
    note = out / "judged.yaml"
    if scores := read_yaml(note):
        return scores
    link(out / "train", run / "train")
    infer(InferOptions(data=data, out=out, checkpoint=str(checkpoint)))
    size = image_files.image_size(layout.read_split(data, "test")[0].image)
    path, _ = submit(SubmitOptions(data=data, out=out, submission_size=size))
    step, validation = int(checkpoint.stem.rsplit("_", 1)[1]), scalars(run)["mIoU"]
    scores = unsupervised_score(run, checkpoint, frames, mask=mask)
    scores["validation"] = dict(zip(*validation, strict=True)).get(step, float("nan"))
    scores["truth"] = float(score_submission(path, data / "withheld" / "test_gt", size)["mIoU"])
    write_yaml(note, {name: round(float(value), 5) for name, value in scores.items()})
    return read_yaml(note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "adaptation")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    data, folder = arguments.data.resolve(), ROOT / "outputs" / "adaptation" / arguments.data.name
    mask = estimate_overlay([item.image for item in layout.read_split(data, "train_target")]).mask
    frames = target_frames(data)
    rows = []
    for seed in arguments.seeds:
        for name, row in ROWS.items():
            run = folder / f"{name}-{seed}"
            if row.trained_as or row.labels or not (run / "submission.csv").exists():
                continue
            for checkpoint in Run(run).checkpoints():
                scores = judge(data, run, checkpoint, frames, mask)
                rows.append({"row": name, "seed": seed, "checkpoint": checkpoint.stem} | scores)
    table = pd.DataFrame(rows)
    result = {"checkpoints": len(table), "runs": table.groupby(["row", "seed"]).ngroups}
    result["best"] = float(table["truth"].max())
    for name in CRITERIA:
        result[name] = {
            "spearman": round(float(table[name].rank().corr(table["truth"].rank())), 3),
            "pearson": round(float(table[name].corr(table["truth"])), 3),
            "chosen": float(table["truth"][table[name].idxmax()]),
        }
        print(f"{name:12} {result[name]}")
    print(f"{result['checkpoints']} checkpoints of {result['runs']} runs; the best has mIoU {result['best']:.3f}")
    with whole_file(RESULTS / f"selection-{data.name}.json") as temporary:
        temporary.write_text(json.dumps(result | {"table": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
