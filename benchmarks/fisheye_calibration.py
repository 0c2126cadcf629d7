"""Errors of the estimated lens on rendered streets, for three families of lenses that the estimate does not know.

The error of a pixel is its distance to the place where the estimated camera sees the pixel's true ray. "turned" allows
the estimated camera one rotation, the best one: images do not show in which direction a camera points on the car, and
the augmentation rotates its virtual camera by more than that. Prints a table and writes
``benchmarks/results/fisheye-calibration.json``.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from lib.camera.models import Fisheye
from lib.dataset.image_files import write_png
from lib.sample import TARGET_SENSOR, CameraOverlay, render
from lib.target.estimate_overlay import estimate_overlay
from lib.target.lens import default_lens, estimate_lens

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


def main() -> None:
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
    RESULTS.write_text(json.dumps({"size": SIZE, "seed": SEED, "lenses": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
