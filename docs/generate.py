"""Write the generated parts of the documentation: tables and chart, the picture, the gallery, the demo's scores.

``python docs/generate.py tables`` writes every table of ``benchmarks/tables.py`` between its markers in README and
``docs/``, and README's chart. The other commands read a finished demo run, see ``--help``.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
from pathlib import Path

import numpy as np

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import tables  # noqa: E402

MARKER = re.compile(r"(<!-- table: (?P<name>\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
MAX_BYTES = 300_000
"""Largest size of a committed picture or page."""
MAX_WIDTH = 1200
"""Largest width of a picture in pixels."""
CHART, PICTURE = DOCS / "images" / "results.svg", DOCS / "images" / "demo.png"


def pages() -> list[Path]:
    """Return the documents that hold tables."""
    return [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


def with_tables(text: str) -> str:
    """Return a document with its tables written anew."""
    return MARKER.sub(lambda match: f"{match[1]}\n{tables.TABLES[match['name']]()}\n\n{match[3]}", text)


def write_tables() -> None:
    """Write the tables of all documents, and the chart."""
    for page in pages():
        page.write_text(with_tables(page.read_text()))
    write_chart(CHART)


def write_chart(path: Path) -> None:
    """Write README's bar chart as SVG: mean mIoU per step, and the range over the seeds."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update({"svg.hashsalt": "results", "svg.fonttype": "none", "font.family": "sans-serif"})
    figure = Figure(figsize=(9.6, 2.6), layout="constrained")
    axes = figure.subplots(1, len(tables.SETS), sharey=True)
    colours = ["#9aa5b1", "#8fb8de", "#5a9bd5", "#2f75b5", "#a9c4e0", "#d9a441"]
    for axis, column in zip(axes, tables.SETS, strict=True):
        values = tables.summary_values(column)
        means = [np.mean(seeds) for seeds in values.values()]
        ranges = [[mean - min(s) for mean, s in zip(means, values.values(), strict=True)]]
        ranges += [[max(s) - mean for mean, s in zip(means, values.values(), strict=True)]]
        names = [tables.TITLES[name] for name in values]
        axis.barh(names, means, xerr=ranges, color=colours, height=0.7, error_kw={"lw": 0.8, "capsize": 2})
        for place, (mean, seeds) in enumerate(zip(means, values.values(), strict=True)):
            axis.text(max(seeds) + 0.01, place, f"{mean:.3f}", va="center", fontsize=8)
        axis.set(title=column, xlim=(0, 0.7 if max(means) > 0.5 else 0.45))
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    axes[0].invert_yaxis()
    figure.supxlabel("mIoU on the test labels: mean of three seeds, least to most", fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def write_picture(run_folder: Path, data: Path, path: Path) -> None:
    """Write README's picture: source, augmented source, its label, target, and prediction.

    Args:
        run_folder: finished run of the demo.
        data: data set of the run.
    """
    import matplotlib

    matplotlib.use("Agg")
    from lib.dataset import image_files, layout
    from lib.diagnostics import plots
    from lib.parallel import evenly_spaced
    from lib.run import Run

    run = Run(run_folder)
    sources = {item.id: item for item in layout.read_split(data, "train_source")}
    augmented = [item for item in layout.read_split(run.augmented, "train_source") if item.id in sources]
    item, test = augmented[0], evenly_spaced(layout.read_split(data, "test"), 4)[1]
    row = [
        image_files.read_image(sources[item.id].image),
        image_files.read_image(item.image),
        plots.colour_label(image_files.read_label(item.label)),
        image_files.read_image(test.image),
        plots.colour_label(image_files.read_label(run.masks / f"{test.id}.png")),
    ]
    titles = ["source", "augmented source", "its label", "target", "prediction"]
    figure = plots.sheet([row], titles, width=3.2)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    path.write_bytes(shrunken(buffer.getvalue(), MAX_BYTES, width=1400)[1])


def shrunken(picture: bytes, limit: int, width: int = MAX_WIDTH) -> tuple[str, bytes]:
    """Return suffix and bytes of a picture of at most ``limit`` bytes: PNG, or JPEG where that is too large."""
    from PIL import Image

    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.thumbnail((width, 10_000), Image.Resampling.LANCZOS)
    formats = [(".png", {"format": "png"})]
    formats += [(".jpg", {"format": "jpeg", "quality": quality}) for quality in (85, 75, 60, 45)]
    for suffix, options in formats:
        buffer = io.BytesIO()
        image.save(buffer, optimize=True, **options)
        if buffer.tell() <= limit:
            return suffix, buffer.getvalue()
    raise SystemExit(f"a picture of {image.size} does not fit into {limit} bytes")


def write_gallery(run_folder: Path, folder: Path) -> None:
    """Write the executed notebooks of a run as Markdown with pictures."""
    import nbformat
    from nbconvert import MarkdownExporter
    from traitlets.config import Config

    from lib.run import Run

    notebooks = sorted(Run(run_folder).notebooks.glob("[0-9][0-9]_*.ipynb"))
    notebooks = [path for path in notebooks if ".failed" not in path.name]
    if not notebooks:
        raise SystemExit(f"{run_folder}: no executed notebooks (expected: a finished run)")
    root = f"{run_folder.resolve().parents[1]}/"
    exporter = MarkdownExporter(
        config=Config({"NbConvertBase": {"display_data_priority": ["image/png", "text/plain"]}})
    )
    for path in notebooks:
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs = [output for output in cell.outputs if _is_worth_showing(output)]
        text, resources = exporter.from_notebook_node(notebook)
        for old in folder.glob(f"{path.stem}*"):
            old.unlink()
        for number, (name, picture) in enumerate(resources["outputs"].items(), 1):
            suffix, small = shrunken(picture, MAX_BYTES // 2)
            target = f"{path.stem}_{number}{suffix}"
            (folder / target).write_bytes(small)
            text = text.replace(f"![png]({name})", f"![output of the cell above]({target})")
        text = re.sub(r"\x1b\[[0-9;]*m|[ \t]+$", "", text.replace(root, ""), flags=re.MULTILINE)
        text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
        if len(text.encode()) > MAX_BYTES:
            raise SystemExit(f"{path}: {len(text.encode())} bytes of text (expected: {MAX_BYTES} at most)")
        (folder / f"{path.stem}.md").write_text(text)


def _is_worth_showing(output) -> bool:
    """Return whether an output is no progress bar and no widget."""
    widget = "application/vnd.jupyter.widget-view+json" in output.get("data", {})
    return output.get("name") != "stderr" and not widget


def write_scores(run_folder: Path, baseline: Path, data: Path) -> None:
    """Write the IoU of the demo and of its baseline to ``benchmarks/results/demo.json``."""
    from lib.run import Run, iteration
    from lib.submission.score import score_submission

    size, runs = (960, 540), []
    for title, folder in (("augmented", run_folder), ("only resized", baseline)):
        iou = score_submission(Run(folder).submission, data / "withheld" / "test_gt", size)
        runs.append({"title": title, "iou": {name: round(float(value), 5) for name, value in iou.items()}})
    iterations = iteration(Run(run_folder).checkpoints()[-1])
    found = {"size": size, "iters": iterations, "runs": runs}
    (tables.RESULTS / "demo.json").write_text(json.dumps(found, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("tables", "picture", "gallery", "scores"))
    parser.add_argument("--run", type=Path, default=ROOT / "outputs" / "demo", help="finished run of the demo")
    parser.add_argument("--baseline", type=Path, default=ROOT / "outputs" / "demo-plain", help="finished baseline run")
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "sample", help="data set of the run")
    args = parser.parse_args()
    if args.what == "picture":
        write_picture(args.run, args.data, PICTURE)
    elif args.what == "gallery":
        write_gallery(args.run, DOCS / "gallery")
    elif args.what == "scores":
        write_scores(args.run, args.baseline, args.data)
    write_tables()


if __name__ == "__main__":
    main()
