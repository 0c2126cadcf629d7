"""Errors of the estimated lens on rendered streets, and how often they lie within the error that the estimate states.

``lenses`` measures three families of lenses that the estimate does not know. ``statement`` measures random lenses from
few, repeated and one-sided frames. The factors in :mod:`lib.target.lens` were chosen on the scenes "train"; the scenes
"held-out" have played no part.

The error of a pixel is its distance to the place where the estimated camera sees the pixel's true ray. "turned" allows
the estimated camera one rotation, the best one: images do not show in which direction a camera points on the car, and
the augmentation rotates its virtual camera by more than that. Prints tables and writes
``benchmarks/results/fisheye-calibration.json``; ``--only NAME`` measures one and keeps the other's results.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np

from lib.camera.models import Fisheye
from lib.camera.remap import rotation
from lib.dataset.image_files import write_png
from lib.sample import TARGET_SENSOR, CameraOverlay, Sensor, render
from lib.sample.street import random_street
from lib.target.estimate_overlay import estimate_overlay
from lib.target.lens import default_lens, estimate_lens
from lib.target.overlay import Overlay

RESULTS = Path(__file__).parent / "results" / "fisheye-calibration.json"
SIZE, FRAMES, SEED = (960, 540), 40, 7
FAMILIES = {  # radius in focal lengths by angle (rad)
    "equidistant": lambda theta: theta,
    "equisolid": lambda theta: 2 * np.sin(theta / 2),
    "stereographic": lambda theta: 2 * np.tan(theta / 2),
}
LENSES = {  # degrees over the image's width, principal point from the centre, image circle in image heights
    "equidistant": (150, (9, -5), 0.8),
    "equisolid": (175, (-8, 7), 0.78),
    "stereographic": (125, (6, 9), 2.0),  # no circle in view
}
LOST = 960.0
"""Error in pixels of a pixel whose ray is outside the estimated camera's view."""
SMALL = (480, 270)
SCENES = {"held-out": 177, "train": 77}
CAMERAS = 6
"""Random lenses per part of :data:`SCENES`."""


def true_lens(family: str, degrees: float, off: tuple[float, float]) -> Fisheye:
    """Return a camera of the family at SIZE; Kannala-Brandt coefficients are fitted up to 100 degrees."""
    theta = np.linspace(1e-3, np.radians(100), 400)
    powers = np.stack([theta**n for n in (3, 5, 7, 9)], axis=1)
    k = np.linalg.lstsq(powers, FAMILIES[family](theta) - theta, rcond=None)[0]
    camera = Fisheye.from_fov(SIZE, np.radians(degrees), tuple(k))
    return replace(camera, cx=camera.cx + off[0], cy=camera.cy + off[1])


def render_frame(folder: Path, index: int, camera: Fisheye, camera_overlay: CameraOverlay) -> Path:
    """Write one frame, unless it exists, and return its file."""
    path = folder / f"{index:03d}.png"
    if not path.exists():
        write_png(path, render((SEED, index), camera, TARGET_SENSOR, camera_overlay)[0])
    return path


def errors(found: Fisheye, true: Fisheye, seen: np.ndarray) -> dict[str, np.ndarray]:
    """Return the errors (pixels) of the pixels in ``seen``, ``bool (H, W)``."""
    y, x = np.nonzero(seen)
    pixels = np.stack([x, y], axis=-1).astype(float)[::7]
    pixels = pixels[np.isfinite(true.unproject(pixels)).all(axis=-1)]
    rays, guessed = true.unproject(pixels), found.unproject(pixels)

    def far(stretch: float, turned: bool) -> np.ndarray:
        there = rays * (1, 1, stretch)
        if turned:
            both = np.isfinite(guessed).all(axis=-1)
            unit = there / np.linalg.norm(there, axis=-1, keepdims=True)
            u, _, v = np.linalg.svd(guessed[both].T @ unit[both])  # Kabsch
            there = there @ (u @ v).T
        return np.nan_to_num(np.linalg.norm(found.project(there) - pixels, axis=-1), nan=LOST)

    stretched = (far(stretch, True) for stretch in np.exp(np.linspace(-0.5, 0.5, 101)))
    return {"as it is": far(1, False), "turned": far(1, True), "stretched": min(stretched, key=np.mean)}


def measure(name: str, folder: Path, frames: int) -> dict:
    """Render frames of a lens, estimate it, and return errors of the estimate and of the default lens."""
    degrees, off, circle = LENSES[name]
    true = true_lens(name.split()[0], degrees, off)
    camera_overlay = CameraOverlay(circle=circle, centre=(off[0] / SIZE[1], off[1] / SIZE[1]))
    (folder / name).mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
        jobs = [pool.submit(render_frame, folder / name, i, true, camera_overlay) for i in range(frames)]
        paths = [job.result() for job in jobs]
    still = estimate_overlay(paths)
    start = time.perf_counter()
    found = estimate_lens(paths, still)
    seconds = time.perf_counter() - start
    expected = default_lens(still)
    seen = ~camera_overlay.mask(SIZE)
    result = {
        "frames": frames,
        "seconds": round(seconds, 1),
        "confidence": round(found.confidence, 2),
        "expected error": round(found.error, 1),
        "expected bend error": round(found.shape_error, 2),
        "true": true.to_dict(),
        "found": found.camera.to_dict(),
    }
    for who, camera in (("estimated", found.camera), ("prior", expected)):
        for how, far in errors(camera, true, seen).items():
            result[f"{who}, {how}"] = {"mean": round(far.mean(), 2), "p95": round(np.percentile(far, 95), 2)}
    return result


def random_camera(rng: np.random.Generator) -> tuple[Fisheye, CameraOverlay, Sensor]:
    """Return a lens between equisolid and stereographic, its overlay (every other one without a circle) and sensor."""
    theta, share = np.linspace(1e-3, np.radians(100), 400), rng.uniform(0, 1)
    radius = (1 - share) * FAMILIES["equisolid"](theta) + share * FAMILIES["stereographic"](theta)
    k = np.linalg.lstsq(np.stack([theta**n for n in (3, 5, 7, 9)], axis=1), radius - theta, rcond=None)[0]
    lens = Fisheye.from_fov(SMALL, np.radians(rng.uniform(110, 190)), tuple(k))
    off = rng.normal(0, 0.02, 2)
    lens = replace(lens, cx=lens.cx + off[0] * SMALL[1], cy=lens.cy + off[1] * SMALL[1])
    circle = 2.0 if rng.random() < 0.5 else rng.uniform(0.68, 0.9)
    overlay = CameraOverlay(circle, tuple(off), hood=rng.uniform(0, 0.2), soft=rng.uniform(0.03, 0.08))
    gain, gamma, contrast = tuple(rng.uniform(0.85, 1.1, 3)), rng.uniform(1, 1.4), rng.uniform(0.7, 1)
    return lens, overlay, Sensor(gain, gamma, contrast, rng.uniform(0.3, 0.9), rng.uniform(1.5, 6))


def drive(seed: tuple[int, int], camera: tuple, frames: int) -> list[np.ndarray]:
    """Render frames of one street, a metre apart."""
    lens, overlay, sensor = camera
    street, rng, found = random_street(seed), np.random.default_rng([*seed, 5]), []
    for i in range(frames):
        turn = street.rotation @ rotation(*rng.normal(0, [0.02, 0.01, 0.008]))
        moved = replace(street, origin=street.origin + [0, 0, i], rotation=turn)
        with patch("lib.sample.render.random_street", lambda _, street=moved: street):
            found.append(render((*seed, i), lens, sensor, overlay)[0])
    return found


def taken_again(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the image with other noise, compressed as JPEG."""
    noisy = (image + rng.normal(0, 1.5, image.shape)).clip(0, 255).astype(np.uint8)
    return cv2.imdecode(cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 90])[1], cv2.IMREAD_COLOR)


def one_sided(image: np.ndarray, mask: np.ndarray, right: bool) -> np.ndarray:
    """Return the image with edges in one half alone."""
    sharp = np.clip((np.arange(image.shape[1]) - image.shape[1] / 2) / 60 + 0.5, 0, 1)[:, None]
    sharp = sharp if right else 1 - sharp
    mixed = image * sharp + cv2.GaussianBlur(image, (0, 0), 14) * (1 - sharp)
    return np.where(mask[..., None], image, mixed).astype(np.uint8)


def scenes(base: int, number: int) -> tuple[Fisheye, np.ndarray, dict[str, list[np.ndarray]]]:
    """Return a random lens, its overlay's mask, and frames of each kind."""
    rng = np.random.default_rng([base, number])
    lens, overlay, sensor = camera = random_camera(rng)
    mask, right = overlay.mask(SMALL), bool(rng.random() < 0.5)
    streets = [render((base, number, i), lens, sensor, overlay)[0] for i in range(12)]
    along = drive((base + 1, number), camera, 10)
    repeated = [frame for frame in streets[4:7] for _ in range(6)]
    return (
        lens,
        mask,
        {
            "one frame": streets[11:],
            "2 to 4 streets": streets[: int(rng.integers(2, 5))],
            "12 streets": streets,
            "3 streets, 6 times each": repeated,
            "the same, compressed anew": [taken_again(frame, rng) for frame in repeated],
            "a standing car, 6 frames": [taken_again(along[0], rng) for _ in range(6)],
            "one street, 10 frames": along,
            "edges in one half, 2 to 5 streets": [
                one_sided(frame, mask, right) for frame in streets[6 : 6 + int(rng.integers(2, 6))]
            ],
        },
    )


def state(folder: Path, base: int, number: int) -> list[dict]:
    """Return stated and true error (pixels, root mean square) of each kind of scenes of one lens."""
    true, mask, kinds = scenes(base, number)
    still = Overlay(mask, np.zeros((*mask.shape, 3), np.uint8), np.ones(mask.shape, np.float32))
    rows = []
    for kind, frames in kinds.items():
        paths = [folder / f"{i:02d}.png" for i in range(len(frames))]
        for path, frame in zip(paths, frames, strict=True):
            write_png(path, frame)
        found = estimate_lens(paths, still)
        far = errors(found.camera, true, ~mask)
        row = {"kind": kind, "camera": number, "confidence": found.confidence}
        for name, stated, how in (("", found.error, "as it is"), ("shape ", found.shape_error, "stretched")):
            row |= {f"{name}stated": stated, f"{name}true": float(np.sqrt((far[how] ** 2).mean()))}
        rows.append(row)
    return rows


def statement() -> dict:
    """Return how often the true error lies within the stated one, per part of :data:`SCENES` and kind of scenes."""
    start, parts = time.perf_counter(), {}
    for part, base in SCENES.items():
        rows = []
        for number in range(CAMERAS):
            with tempfile.TemporaryDirectory() as folder:
                rows += state(Path(folder), base, number)
            print(f"{part}, lens {number}: {sum(r['true'] <= r['stated'] for r in rows)} of {len(rows)} errors held")
        kinds = dict.fromkeys(row["kind"] for row in rows)
        parts[part] = {"all": summary(rows)} | {kind: summary([r for r in rows if r["kind"] == kind]) for kind in kinds}
        for kind, row in parts[part].items():
            print(f"{kind:35}" + "  ".join(f"{name} {value}" for name, value in row.items()))
    return {"size": SMALL, "cameras": CAMERAS, "minutes": round((time.perf_counter() - start) / 60, 1)} | parts


def summary(rows: list[dict]) -> dict:
    """Return share held and spread of the errors of some cases."""
    row: dict = {"cases": len(rows)}
    for name in ("", "shape "):
        stated, true = (np.array([r[name + column] for r in rows]) for column in ("stated", "true"))
        row[f"{name}held"] = round(float((true <= stated).mean()), 3)
        row[f"{name}true / stated, 90%"] = round(float(np.quantile(true / stated, 0.9)), 2)
        for column, values in (("stated", stated), ("true", true)):
            row[name + column] = [round(float(q), 1) for q in np.quantile(values, (0.1, 0.5, 0.9))]
    confidence = np.array([r["confidence"] for r in rows])
    return row | {
        "confidence": round(float(np.median(confidence)), 2),
        "guessed": round(float((confidence == 0).mean()), 2),
    }


def lenses() -> dict:
    """Return the errors of three lenses, each from :data:`FRAMES` frames."""
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        kept = os.environ.get("FRAMES", folder)  # a folder to keep the rendered frames in
        for name in LENSES:
            results[name] = measure(name, Path(kept), FRAMES)
    columns = [f"estimated, {how}" for how in ("as it is", "turned", "stretched")]
    columns += [f"prior, {how}" for how in ("as it is", "stretched")]
    print(f"{'lens':15}" + "".join(f"{c:>24}" for c in columns) + "  confidence  seconds")
    for name, row in results.items():
        cells = "".join(f"{row[c]['mean']:14.2f} (95%: {row[c]['p95']:.1f})" for c in columns)
        print(f"{name:15}{cells}{row['confidence']:12.2f}{row['seconds']:9.1f}")
    return results


MEASUREMENTS = {"lenses": lenses, "statement": statement}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the estimated lens.")
    parser.add_argument("--only", choices=MEASUREMENTS, help="one measurement instead of both")
    only = parser.parse_args().only
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in [only] if only else MEASUREMENTS:
        results |= {"size": SIZE, "seed": SEED, name: MEASUREMENTS[name]()}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
