"""The measured tables of the documentation, as Markdown, from the JSON files in ``benchmarks/results``.

``docs/generate.py`` writes them into README and ``docs/results.md``. A file keeps the row names of the script that
wrote it; :data:`TITLES` gives their titles.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"

TITLES = {
    "source": "source only",
    "overlay": "resized + overlay",
    "fixed": "fixed lens + overlay",
    "fitted": "lens, motion, overlay",
    "photometric": "lens, motion, overlay, appearance",
    "size": "+ image size chosen on the target's frames",
    "self-training": "+ self-training",
    "test-time": "+ test-time options",
    "untaught": "all of these, without self-training",
    "open": "all of these, without mirror images",
    "flat": "all of these, resized instead of transformed",
    "angles": "all of these, source field of view from right angles alone",
    "oracle": "target's own labels",
    "oracle-test-time": "target's own labels + test-time options",
}
"""Name of a row of ``benchmarks/adaptation.py`` to its title."""

SUMMARY = ("source", "photometric", "self-training", "test-time", "untaught", "oracle")
"""The rows of README's table and chart."""
SETS = {"rendered streets": "adaptation-start2000", "real streets (rehearsal)": "rehearsal-camvid-start2000"}
"""The data sets of README's table and chart: column title to result file."""

NUMBERS = "none one two three four five six seven eight nine ten eleven twelve".split()

Rows = Mapping[str, Mapping[str, Mapping]]


def read(name: str) -> dict:
    """Return the content of ``benchmarks/results/NAME.json``."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Return the mean, followed by the least and the largest value if there are several."""
    if not values:
        return "–"
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def median(values: Sequence[float], digits: int) -> str:
    """Return ``median (least–most)`` of three such numbers."""
    middle, least, most = (f"{value:.{digits}f}" for value in values)
    return f"{middle} ({least}–{most})"


# Steps of the adaptation


def gap_closed(rows: Rows, name: str) -> dict[str, float]:
    """Return the share of the way from row "source" to row "oracle" that a row covers, by seed."""
    shares = {}
    for seed, result in rows.get(name, {}).items():
        ends = [rows.get(end, {}).get(seed, {}).get("test") for end in ("source", "oracle")]
        if all(ends):
            low, high = (end["mIoU"] for end in ends)
            shares[seed] = round((result["test"]["mIoU"] - low) / (high - low), 3)
    return shares


def adaptation(rows: Rows) -> str:
    """Return a line per row with the mean (least–most) over its seeds."""
    lines = []
    for name, seeds in rows.items():
        test, proxy = (spread([r[of]["mIoU"] for r in seeds.values() if of in r]) for of in ("test", "proxy"))
        closed = spread(list(gap_closed(rows, name).values()), 2)
        lines.append([TITLES[name], test, closed, proxy, str(len(seeds))])
    return markdown(("", "mIoU on the test labels", "gap closed", "mIoU on the proxy", "seeds"), lines)


def summary_values(column: str) -> dict[str, list[float]]:
    """Return the mIoU of each seed on the test labels, by row of :data:`SUMMARY`."""
    rows = read(f"adaptation-{SETS[column]}")["rows"]
    return {name: [seed["test"]["mIoU"] for seed in rows[name].values()] for name in SUMMARY}


def summary() -> str:
    """Return README's table."""
    values = {column: summary_values(column) for column in SETS}
    lines = [[TITLES[name], *(spread(values[column][name]) for column in SETS)] for name in SUMMARY]
    return markdown(("mIoU on the test labels", *SETS), lines)


def proxies() -> str:
    """Return the rows of the real frames without labels, which have one seed and a proxy alone."""
    rows = read("adaptation-camvid-fisheye")["rows"]
    return markdown(
        ("", "mIoU on the proxy"), [[TITLES[n], spread([r["0"]["proxy"]["mIoU"]])] for n, r in rows.items()]
    )


def selection() -> str:
    """Return how well each criterion without labels ranks checkpoints."""
    found = read("selection-adaptation")
    titles = {
        "information": "information",
        "certainty": "certainty",
        "agreement": "agreement with mirror image and smaller copy",
        "validation": "validation on the run's own augmented source",
    }
    lines = [
        [title, *(f"{found[name][key]:.2f}" for key in ("spearman", "pearson")), f"{found[name]['chosen']:.3f}"]
        for name, title in titles.items()
    ]
    first = f"{found['checkpoints']} checkpoints of {found['runs']} runs"
    chosen = f"mIoU of the checkpoint that it chooses (best: {found['best']:.3f})"
    return markdown((first, "rank correlation (Spearman)", "linear correlation (Pearson)", chosen), lines)


# The demo


def demo() -> str:
    """Return the IoU of the demo's two runs."""
    found = read("demo")
    classes = [name for name in found["runs"][0]["iou"] if name != "mIoU"]
    shown = [name for name in classes if any(run["iou"][name] >= 0.0005 for run in found["runs"])]
    header = (
        "",
        *(name.replace("_", " ") for name in shown),
        f"the other {NUMBERS[len(classes) - len(shown)]}",
        "mIoU",
    )
    lines = [
        [run["title"], *(f"{run['iou'][name]:.3f}" for name in shown), "0.000", f"**{run['iou']['mIoU']:.3f}**"]
        for run in found["runs"]
    ]
    return markdown(header, lines)


def test_time() -> str:
    """Return the mIoU of a demo network with each test-time option."""
    lines = [
        [f"`{name}`" if name != "none" else "none", f"{value:.3f}"] for name, value in read("test-time")["mIoU"].items()
    ]
    return markdown(("options", "mIoU"), lines)


# Parts


def calibration() -> str:
    """Return the errors of the estimated lens."""
    titles = {
        "equidistant": "equidistant, 150° field of view",
        "equisolid": "equisolid, 175°",
        "stereographic": "stereographic, 125°, no image circle in view",
    }
    columns = ("estimated, as it is", "estimated, turned", "prior, as it is")
    lines = []
    for name, lens in read("fisheye-calibration")["lenses"].items():
        values = [lens[column]["mean"] for column in columns]
        lines.append(
            [titles[name], f"{values[0]:.2f}", f"{values[1]:.2f}", f"{values[2]:.1f}", f"{lens['seconds']:.0f}"]
        )
    header = ("mean pixel error", "estimated", "after one rotation of the camera", "expected before any edge is seen")
    return markdown((*header, "seconds"), lines)


def statement() -> str:
    """Return how often the true error of the estimated lens lies within the stated one."""
    lines = []
    for kind, row in read("fisheye-calibration")["statement"]["held-out"].items():
        (a, stated, b), (c, true, d) = row["stated"], row["true"]
        spread = (f"{stated:.1f} ({a:.1f}–{b:.1f})", f"{true:.1f} ({c:.1f}–{d:.1f})")
        held = (f"{row['held']:.0%}", f"{row['shape held']:.0%}")
        lines.append([kind, str(row["cases"]), *spread, *held, f"{row['confidence']:.2f}", f"{row['guessed']:.0%}"])
    header = ("images", "cases", "stated error, px", "true error, px", "true within stated", "the same of the shape")
    return markdown((*header, "confidence", "guessed"), lines)


def overlay() -> str:
    """Return the IoU of the estimated overlay masks."""
    rows = read("fisheye")["overlay"]["rows"]
    cells = {(row["rig"], row["frames"], row["number"]): row for row in rows}
    columns = {"24 frames": ("day", 24), "16 frames": ("day", 16), "night, 16 frames": ("night", 16)}
    lines = []
    for rig in dict.fromkeys(row["rig"] for row in rows):
        found = [cells[rig, *key] for key in columns.values()]
        lines.append(
            [rig.replace("sample", "the sample's"), *(f"{r['IoU']:.3f} ({r['IoU, hidden']:.3f})" for r in found)]
        )
    return markdown(("camera", *columns), lines)


def thin() -> str:
    """Return how much of poles, lights and signs a transformed label keeps."""
    lines = []
    for row in read("fisheye")["thin"]["rows"]:
        if row["class"] == "all three":
            nearest = row["nearest recall"] / row["supersampled recall"]
            lines.append(
                [row["lens"], row["size"].replace("x", "×"), f"{row['of supersampled']:.3f}", f"{nearest:.3f}"]
            )
    return markdown(("lens", "size", "label transform", "nearest sampling"), lines)


def offline() -> str:
    """Return how much faster notebook 01 writes pairs than a plain script."""
    lines = []
    for row in read("fisheye")["offline"]["rows"]:
        clock, processor = ([row[f"{kind}: {key}"] for key in ("times faster", "least", "most")] for kind in _CLOCKS)
        files = {"as 01 writes": "uncompressed, as notebook 01 writes"}.get(row["files"], row["files"])
        lines.append([files, median(clock, 2), median(processor, 2)])
    return markdown(("files", "times faster by the clock", "times faster in processor time"), lines)


def online() -> str:
    """Return how many crops one core transforms per second."""
    lines = []
    for row in read("fisheye")["online"]["rows"]:
        lines.append([f"`{row['look']}`", median([row[f"wall: {k}"] for k in ("crops per s", "least", "most")], 0)])
    return markdown(("appearance", "crops of 512×1024 per second"), lines)


_CLOCKS = ("wall", "processor")


def inference() -> str:
    """Return how much faster sliding windows are than mmsegmentation's."""
    titles = {
        "one window at a time": "`crops_per_batch 1`",
        "four at a time": "`crops_per_batch 4`",
        "four at a time, bfloat16": "`crops_per_batch 4`, `amp true`",
        "four at a time, compiled": "`crops_per_batch 4`, `compile true`",
    }
    found = read("inference")
    networks = ("demo", "upernet_t")

    def cell(network: str, way: str, kind: str) -> str:
        if way not in found[network]:
            return "not measured"
        times = found[network][way]
        ratio = median([times[f"{kind} ratio"][key] for key in ("median", "least", "most")], 2)
        if kind == "wall":
            return ratio
        same = "all" if times["least equal"] == 1 else f"{times['least equal']:.3f}"
        return f"{ratio}, {same}"

    lines = [
        [title, *(cell(n, way, kind) for n in networks for kind in _CLOCKS[::-1])] for way, title in titles.items()
    ]
    demo_title, large = "demo recipe, 480×270", "UperNet on InternImage-T, 320×180"
    header = ("", f"{demo_title}: processor time, equal pixels", "by the clock")
    return markdown((*header, f"{large}: processor time, equal pixels", "by the clock"), lines)


def dcnv3(network: str = "T 512x1024") -> str:
    """Return how much faster DCNv3 is than with ``grid_sample``."""
    found, ways = read("dcnv3-cpu"), ("kernels", "plain PyTorch")
    rows = {(row["name"], row["what"]): row for row in found["rows"]}
    lines = []
    for stage in range(1, 5):
        both = [rows[f"{network} stage {stage}", what] for what in ("forward", "forward+backward")]
        shape = "×".join(map(str, both[0]["shape"]))
        cells = (median(row[way]["times_faster"], 1) for way in ways for row in both)
        lines.append([f"stage {stage} ({shape}, {both[0]['groups']} groups)", *cells])
    whole = found["network"]["against grid_sample"]
    cells = [cell for way in ways for cell in (median(whole[way]["times_faster"], 1), "–")]
    lines.append(["the whole network (1×3×512×1024)", *cells])
    header = [f"{way}, {what}" for way in ways for what in ("forward", "forward and backward")]
    return markdown(("", *header), lines)


def fault_rows(parts: Iterable[Mapping]) -> str:
    """Return a line per part of `make faults`."""
    lines = []
    for part in parts:
        count = f"{part['count']:,} {part['unit']}" + ("" if part["finished"] else ", unfinished")
        lines.append([part["title"], count, f"{part['least']:,}", str(part["faults"]), "; ".join(part["notes"])])
    return markdown(("what", "tried", "at least", "faults", ""), lines)


def faults() -> str:
    """Return the figures of `make faults`."""
    return fault_rows(read("faults")["parts"].values())


def _steps(name: str) -> Callable[[], str]:
    return lambda: adaptation(read(f"adaptation-{name}")["rows"])


TABLES: dict[str, Callable[[], str]] = {
    "summary": summary,
    "demo": demo,
    "steps": _steps("adaptation"),
    "steps-2000": _steps("adaptation-start2000"),
    "rehearsal": _steps("rehearsal-camvid-start2000"),
    "proxies": proxies,
    "selection": selection,
    "test-time": test_time,
    "inference": inference,
    "calibration": calibration,
    "statement": statement,
    "overlay": overlay,
    "thin": thin,
    "offline": offline,
    "online": online,
    "dcnv3": dcnv3,
    "faults": faults,
}
"""Name of a table in a document, ``<!-- table: NAME -->``, to the function that makes it."""
