"""The fisheye part: exactness and speed of remap tables, thin classes in labels, IoU of the estimated overlay.

Everything is rendered by :mod:`lib.sample` from the seeds below. Prints a table per measurement and keeps all in
``benchmarks/results/fisheye.json``; ``--only NAME`` measures one and leaves the others' results as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from threadpoolctl import threadpool_limits

from lib.camera import remap
from lib.camera.models import Fisheye, Pinhole
from lib.camera.pyramid import THIN
from lib.dataset import image_files
from lib.dataset.classes import BACKGROUND, CLASSES, IGNORE
from lib.parallel import in_threads
from lib.sample import RIGS, SOURCE_SENSOR, TARGET_SENSOR, CameraOverlay, render, source_camera, target_camera
from lib.sample.weather import Weather
from lib.synthesis.params import AugmentParams
from lib.synthesis.target_camera import APPEARANCES, TargetCamera
from lib.target import appearance, overlay
from lib.target.estimate_overlay import estimate_overlay

RESULTS = Path(__file__).parent / "results" / "fisheye.json"
SOURCE = (2048, 1024)
TURN = remap.rotation(0.03, 0.02, -0.04)
SCENES = [(11, i) for i in range(6)]
FRAMES = [(21, i) for i in range(24)]
ROUNDS = 15


def milliseconds(run: Callable) -> float:
    """Median of ``ROUNDS``, after one to warm up."""
    taken = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return round(1e3 * statistics.median(taken[1:]), 2)


def lenses(size: tuple[int, int]) -> dict:
    """(target, source): the sample's own cameras, and both ends of the range of random lenses."""
    pairs = {"sample": (target_camera(size), source_camera(SOURCE))}
    for name, half in (("mild", 0.55), ("strong", 1.15)):
        pairs[name] = Fisheye.from_fov(size, 2 * half), Pinhole.from_fov(SOURCE, 2 * half)
    return pairs


@threadpool_limits.wrap(limits=1, user_api="blas")
def tables() -> list[dict]:
    """Return times and errors of remap tables, on one thread.

    The milliseconds are those of a remap table, of the fixed-point tables made from it, and of remapping one image and
    one label of 2048x1024. The error is the table's largest one, in source pixels.
    """
    cv2.setNumThreads(1)
    image, label = render(SCENES[0], source_camera(SOURCE), SOURCE_SENSOR)
    rows = []
    for name, (target, source) in lenses((1920, 1080)).items():
        exact = source.project(target.rays() @ TURN.T)
        for region in (None, (448, 284, 1024, 512)):
            ready = remap.build_remap(target, source, TURN, region)
            ready.image(image), ready.label(label)
            x, y, width, height = region or (0, 0, target.width, target.height)
            positions = np.stack([ready.x, ready.y], axis=-1)[ready.covered]
            error = np.abs(positions - exact[y : y + height, x : x + width][ready.covered]).max()

            def fixed(of=ready.grid):
                fresh = remap.Remap(of, SOURCE)
                return fresh._maps, fresh._seen

            rows.append(
                {
                    "lens": name,
                    "size": f"{width}x{height}",
                    "table ms": milliseconds(lambda t=target, s=source, r=region: remap.build_remap(t, s, TURN, r)),
                    "fixed ms": milliseconds(fixed),
                    "image ms": milliseconds(lambda w=ready: w.image(image)),
                    "label ms": milliseconds(lambda w=ready: w.label(label)),
                    "error px": round(float(error), 4),
                }
            )
    return rows


def thin() -> list[dict]:
    """Return recall and area of poles, traffic lights and traffic signs in minified labels.

    There are six rendered labels of 2048x1024. The truth of a target pixel is the share of each class among 4x4 nearest
    samples of the source label, evenly spaced in the pixel. ``recall`` is the share of a class's area, in samples, that
    lies in pixels to which a label gives the class. ``supersampled`` is the label made from those samples: a thin class
    takes a pixel from a quarter on, otherwise the most frequent class does. ``nearest`` is plain remapping.
    ``of supersampled`` is the main figure: recall relative to the supersampled label's. ``area`` is a label's area
    relative to the true one: a label that only thickens objects would show there.
    """
    labels = [render(scene, source_camera(SOURCE))[1] for scene in SCENES]
    rows = []
    for size in ((960, 540), (480, 270)):
        for name, (target, source) in lenses(size).items():
            sums = sum(_thin_sums(label, target, source) for label in labels)
            for thin_class, (truth, *found) in zip((*THIN, None), (*sums, sums.sum(axis=0)), strict=True):
                row = {"lens": name, "size": f"{size[0]}x{size[1]}"}
                row["class"] = "all three" if thin_class is None else CLASSES[thin_class]
                row["pixels"] = round(float(truth), 1)
                for way, kept, area in zip(("warped", "supersampled", "nearest"), found[:3], found[3:], strict=True):
                    row[f"{way} recall"], row[f"{way} area"] = round(kept / truth, 4), round(area / truth, 3)
                row["of supersampled"] = round(found[0] / found[1], 4)
                rows.append(row)
    return rows


def _thin_sums(label: np.ndarray, target, source) -> np.ndarray:
    """Return true area, area kept by three labels and area of the labels, per thin class: ``float (3, 7)`` pixels."""
    table = remap.build_table(target, source, TURN)
    fine = remap.build_table(target.scaled((4 * target.width, 4 * target.height)), source, TURN)
    plain, samples = (
        cv2.remap(label, np.nan_to_num(t, nan=-9), None, cv2.INTER_NEAREST, borderValue=IGNORE) for t in (table, fine)
    )
    samples = samples.reshape(target.height, 4, target.width, 4)
    shares = np.stack([(samples == c).mean(axis=(1, 3)) for c in range(len(CLASSES))]) * remap.covered(table)
    most = shares[list(THIN)]
    fine_label = np.where(most.max(axis=0) >= 0.25, np.array(THIN)[most.argmax(axis=0)], shares.argmax(axis=0))
    ways = (remap.build_remap(target, source, TURN).label(label), fine_label, plain)
    return np.array(
        [
            [shares[c].sum(), *(shares[c][way == c].sum() for way in ways), *((way == c).sum() for way in ways)]
            for c in THIN
        ]
    )


def overlay_masks() -> list[dict]:
    """Return the IoU of the estimated overlay mask with the true one, per rig, kind of frames and their number.

    The truth is where less than 5 % of the street's light gets through the lens (``lib.sample.overlay.MIN_LIGHT``), as
    in the sample's labels; ``IoU, hidden`` counts against where none at all gets through.
    """
    rows, size = [], (480, 270)
    for name, rig in RIGS.items():
        for kind, frames in _kinds(rig, size).items():
            for count in (len(frames), 16):
                with tempfile.TemporaryDirectory() as folder:
                    paths = [Path(folder) / f"{i}.png" for i in range(count)]
                    for path, frame in zip(paths, frames, strict=False):
                        image_files.write_png(path, frame)
                    start = time.perf_counter()
                    found = estimate_overlay(paths).mask
                    seconds = time.perf_counter() - start
                truths = {"IoU": rig.overlay.mask(size), "IoU, hidden": rig.overlay.hidden(size)}
                row = {"rig": name, "frames": kind, "number": count}
                row |= {key: round((found & t).sum() / (found | t).sum(), 4) for key, t in truths.items()}
                rows.append(row | {"seconds": round(seconds, 2)})
    return rows


def _kinds(rig, size: tuple[int, int]) -> dict[str, list[np.ndarray]]:
    def frames():
        return [render(scene, rig.camera(size), rig.sensor, rig.overlay)[0] for scene in FRAMES]

    rng = np.random.default_rng(0)
    hood = replace(rig.overlay, circle=9.0).mask(size) & ~replace(rig.overlay, hood=0.0).mask(size)
    day = frames()
    night = [np.clip(f * 0.15 + rng.normal(0, 3, f.shape), 0, 255).round().astype(np.uint8) for f in day]
    standing = [
        day[8],
        *(np.clip(day[8] + rng.normal(0, 3, f.shape), 0, 255).round().astype(np.uint8) for f in day[:7]),
    ]
    x, shiny = np.arange(size[0]) / 30, []
    for f in day:
        mirrored = f * rng.uniform(0.9, 1.1) + 4 * np.sin(x + rng.uniform(0, 6))[:, None]
        shiny.append(np.where(hood[..., None], mirrored, f).clip(0, 255).round().astype(np.uint8))
    clear, Weather.sky = Weather.sky, lambda self, rays: np.full((rays.shape[1], 3), 0.6, np.float32)
    try:
        overcast = frames()
    finally:
        Weather.sky = clear
    return {
        "day": day,
        "night": night,
        "a third standing": day[:8] + standing + day[16:],
        "reflections": shiny,
        "constant sky": overcast,
    }


def _target(size: tuple[int, int]) -> TargetCamera:
    """Return the sample's target camera with its true mask and lens."""
    frame, _ = render(FRAMES[0], target_camera(size), TARGET_SENSOR, CameraOverlay())
    mask = CameraOverlay().mask(size)
    still = overlay.Overlay(mask, frame, np.zeros(mask.shape, np.float32), 2.0, (0.9, 1.0, 1.1))
    colours = appearance.statistics(frame, ~mask)[None], appearance.thumbnail(frame, ~mask)[None]
    return TargetCamera(still, target_camera(size), None, *colours, source_fov=(0.9, 2.0))


def offline() -> list[dict]:
    """Return times of writing augmented PNG pairs, 2048x1024 to 1920x1080, on all cores, against a plain script.

    The script, common to past solutions, is one process that resizes by PIL (nearest), masks by NumPy and writes by
    OpenCV. Times are seconds per pair, medians of five rounds in turn; ratios are per round. ``wall`` is wall-clock
    time, ``processor`` is processor time divided by the cores that a way uses. Stage 01 writes images uncompressed; the
    second row compresses them.
    """
    cv2.setNumThreads(0)
    target, rng = _target((1920, 1080)), np.random.default_rng(0)
    mask, overlay_image = target.overlay.mask, target.overlay.image
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        pairs = [(folder / f"{i}.png", folder / f"{i}_label.png") for i in range(len(SCENES))]
        for scene, pair in zip(SCENES, pairs, strict=True):
            image, label = render(scene, source_camera(SOURCE), SOURCE_SENSOR)
            Image.fromarray(image).save(pair[0])
            Image.fromarray(label).save(pair[1])

        def script():
            for image, label in pairs:
                small = np.array(Image.open(image).convert("RGB").resize((1920, 1080), Image.NEAREST))
                classes = np.array(Image.open(label).resize((1920, 1080), Image.NEAREST))
                small[mask], classes[mask] = overlay_image[mask], BACKGROUND
                cv2.imwrite(str(folder / "out.png"), cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
                cv2.imwrite(str(folder / "out_label.png"), classes)

        def ours(compress=False):
            def one(pair):
                image, label = image_files.read_image(pair[0]), image_files.read_label(pair[1])
                image, label = target.transform(image, label, AugmentParams.sample(rng))
                image_files.write_png(folder / "augmented" / pair[0].name, image, compress)
                image_files.write_png(folder / "augmented" / pair[1].name, label)

            in_threads(one, pairs * 4, "pairs")

        cores, count = os.cpu_count(), len(pairs)
        ways = (script, 1, count), (ours, cores, 4 * count), (lambda: ours(True), cores, 4 * count)
        times = np.array([[_per_item(*way) for way in ways] for _ in range(6)])[1:]
    rows = []
    for way, name in ((1, "as 01 writes"), (2, "compressed")):
        row = {"files": name}
        for clock, kind in enumerate(("wall", "processor")):
            ratio = times[:, 0, clock] / times[:, way, clock]
            row |= {
                f"{kind}: script s": round(float(np.median(times[:, 0, clock])), 4),
                f"{kind}: ours s": round(float(np.median(times[:, way, clock])), 4),
                f"{kind}: times faster": round(float(np.median(ratio)), 2),
                f"{kind}: least": round(float(ratio.min()), 2),
                f"{kind}: most": round(float(ratio.max()), 2),
            }
        rows.append(row)
    return rows


def _per_item(run: Callable, cores: int, items: int) -> tuple[float, float]:
    """Return seconds per item: wall-clock time and processor time."""
    wall, processor = time.perf_counter(), time.process_time()
    run()
    return (time.perf_counter() - wall) / items, (time.process_time() - processor) / cores / items


@threadpool_limits.wrap(limits=1, user_api="blas")
def online() -> list[dict]:
    """Return training crops per second, 512x1024 from a decoded 2048x1024 image on one thread, per appearance.

    There are 120 random parameters and positions in five rounds. ``wall`` is wall-clock time, ``processor`` the
    thread's time; ``least`` and ``most`` are those of the rounds' means.
    """
    cv2.setNumThreads(1)
    whole = _target((1920, 1080))
    image, label = render(SCENES[0], source_camera(SOURCE), SOURCE_SENSOR)
    rows = []
    for way in APPEARANCES:
        target, rng, taken = replace(whole, appearance=way), np.random.default_rng(0), []
        for _ in range(6 * 24):
            params = AugmentParams.sample(rng)
            region = (int(rng.integers(1920 - 1024 + 1)), int(rng.integers(1080 - 512 + 1)), 1024, 512)
            start = time.perf_counter(), time.thread_time()
            target.transform(image, label, params, region)
            taken.append((time.perf_counter() - start[0], time.thread_time() - start[1]))
        rounds = 1 / np.array(taken).reshape(6, 24, 2)[1:].mean(axis=1)
        row = {"look": way}
        for clock, kind in enumerate(("wall", "processor")):
            each = rounds[:, clock].round(1).tolist()
            found = {"crops per s": float(np.median(each)), "least": min(each), "most": max(each)}
            row |= {f"{kind}: {name}": value for name, value in found.items()}
        rows.append(row)
    return rows


MEASUREMENTS: dict[str, Callable[[], list[dict]]] = {
    "tables": tables,
    "thin": thin,
    "overlay": overlay_masks,
    "offline": offline,
    "online": online,
}


def print_table(rows: list[dict]) -> None:
    """Print rows of equal keys as an aligned table."""
    cells = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the fisheye part.")
    parser.add_argument("--only", choices=MEASUREMENTS, help="one measurement instead of all")
    only = parser.parse_args().only
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "opencv": cv2.__version__,
    }
    for name in [only] if only else MEASUREMENTS:
        rows = MEASUREMENTS[name]()
        print(f"\n{name}")
        print_table(rows)
        results[name] = {"machine": machine, "rows": rows}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
