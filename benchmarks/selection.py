"""How well criteria without labels rank checkpoints, over the runs of ``benchmarks/adaptation.py``.

``python benchmarks/selection.py --data DIR`` judges every checkpoint that those runs kept on the target's unlabelled
frames (:func:`lib.prediction.selection.unsupervised_score`), takes it through stages 03 and 04, and compares the
criteria with the true mIoU on the withheld test labels: rank and linear correlation over all checkpoints, and the mIoU
of the checkpoint that each criterion chooses. Writes ``benchmarks/results/selection-<set>.json``.
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


def judged(data: Path, run: Path, checkpoint: Path, frames: list[Path], mask: np.ndarray) -> dict:
    """Return all criteria and the true mIoU of one checkpoint; written beside the run's other files."""
    out = run / "checkpoints" / checkpoint.stem
    note = out / "judged.yaml"
    if found := read_yaml(note):
        return found
    link(out / "train", run / "train")
    infer(InferOptions(data=data, out=out, checkpoint=checkpoint))
    size = image_files.read_image(layout.read_split(data, "test")[0].image).shape[1::-1]
    path, _ = submit(SubmitOptions(data=data, out=out, submission_size=size))
    step, validation = int(checkpoint.stem.rsplit("_", 1)[1]), scalars(run)["mIoU"]
    found = unsupervised_score(run, checkpoint, frames, mask=mask)
    found["validation"] = dict(zip(*validation, strict=True)).get(step, float("nan"))
    found["truth"] = float(score_submission(path, data / "withheld" / "test_gt")["mIoU"])
    write_yaml(note, {name: round(float(value), 5) for name, value in found.items()})
    return read_yaml(note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "adaptation")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked = parser.parse_args()
    data, folder = asked.data.resolve(), ROOT / "outputs" / "adaptation" / asked.data.name
    mask = estimate_overlay([item.image for item in layout.read_split(data, "train_target")]).mask
    frames = target_frames(data)
    found = []
    for seed in asked.seeds:
        for name, row in ROWS.items():
            run = folder / f"{name}-{seed}"
            if row.trained_as or row.labels or not (run / "submission.csv").exists():
                continue
            for checkpoint in Run(run).checkpoints():
                scores = judged(data, run, checkpoint, frames, mask)
                found.append({"row": name, "seed": seed, "checkpoint": checkpoint.stem} | scores)
    table = pd.DataFrame(found)
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
        temporary.write_text(json.dumps(result | {"table": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
