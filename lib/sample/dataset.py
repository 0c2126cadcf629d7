"""The sample as a data set in the competition's layout.

The source images come from an undistorted camera, target and test images from a fisheye camera with an overlay. The
folder ``withheld/`` holds what a competition keeps to itself: the target's labels, its overlay mask, and both cameras.
It serves to measure and never to train.
"""

import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from lib.dataset import layout
from lib.errors import InputError
from lib.files import whole_file, write_yaml
from lib.run import claim
from lib.sample.cameras import source_camera, target_camera
from lib.sample.overlay import CameraOverlay
from lib.sample.render import render
from lib.sample.sensor import SOURCE_SENSOR, TARGET_SENSOR


@dataclass(frozen=True)
class _Split:
    """A split: its name, the pattern of its ids, the folder of its labels, and its kind of camera."""

    name: str
    id: str
    labels: str
    fisheye: bool


_SPLITS = (
    _Split("train_source", "TRAIN_SOURCE_{:04d}", "train_source_gt", False),
    _Split("val_source", "VALID_SOURCE_{:03d}", "val_source_gt", False),
    _Split("train_target", "TRAIN_TARGET_{:04d}", "withheld/train_target_gt", True),
    _Split("test", "TEST_{:04d}", "withheld/test_gt", True),
)


@dataclass(frozen=True)
class _Job:
    """One image to render: its scene, its kind of camera, and its two files."""

    scene_seed: tuple[int, int, int]
    fisheye: bool
    size: tuple[int, int]
    image: Path
    label: Path


def write(
    out: str | Path,
    *,
    source: int = 40,
    val: int = 8,
    target: int = 24,
    test: int = 12,
    size: tuple[int, int] = (480, 270),
    source_size: tuple[int, int] | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Render the data set into ``out``, on all cores; continue where an interrupted call stopped.

    An image depends on the seed, its split and its number alone: other counts leave it as it is.

    Args:
        out: folder of the data set.
        source, val, target, test: number of images per split.
        size: (width, height) of target and test images.
        source_size: (width, height) of source images; None for ``size``.
        seed: of all randomness, 0 or more.
        overwrite: replace an earlier data set.

    Returns:
        ``out`` as a path.

    Raises:
        InputError: a count, size or seed out of range, or ``out`` holds something else.
    """
    counts, source_size = (source, val, target, test), source_size or size
    if min(*counts, seed) < 0 or min(*size, *source_size) < 16:
        raise InputError(
            f"counts {counts}, sizes {tuple(source_size)} and {tuple(size)}, seed {seed}: "
            "counts and seed must be 0 or more, widths and heights 16 pixels or more."
        )
    parameters: dict = dict(zip((split.name for split in _SPLITS), counts, strict=True))
    parameters |= {"size": list(size), "source_size": list(source_size), "seed": seed}
    out = claim(out, parameters, overwrite=overwrite, restart=overwrite)
    jobs = []
    for number, (split, count) in enumerate(zip(_SPLITS, counts, strict=True)):
        width, height = size if split.fisheye else source_size
        for index in range(count):
            name = f"{split.id.format(index)}.png"
            files = out / f"{split.name}_image" / name, out / split.labels / name
            jobs.append(_Job((seed, number, index), split.fisheye, (width, height), *files))
    _render_all([job for job in jobs if not (job.image.exists() and job.label.exists())])
    _write_png(out / "withheld" / "overlay_mask.png", CameraOverlay().mask(size).astype(np.uint8) * 255)
    cameras = {"source": source_camera(source_size).to_dict(), "target": target_camera(size).to_dict()}
    write_yaml(out / "withheld" / "cameras.yaml", cameras)
    for split, count in zip(_SPLITS, counts, strict=True):
        names = [split.id.format(index) for index in range(count)]
        folders = [f"{split.name}_image"] + ([] if split.fisheye else [split.labels])  # withheld labels are not named
        rows = [(name, *(f"./{folder}/{name}.png" for folder in folders)) for name in names]
        layout.write_table(out / f"{split.name}.csv", layout.SPLITS[split.name], rows)
    layout.write_sample(out, [_SPLITS[-1].id.format(index) for index in range(test)])
    return out


def _render_all(jobs: list[_Job]) -> None:
    if not jobs:
        return
    workers = min(len(os.sched_getaffinity(0)), len(jobs))
    # Spawned, not forked: OpenCV's and torch's threads in the caller do not survive a fork.
    with ProcessPoolExecutor(workers, get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
        futures = [pool.submit(_render_job, job) for job in jobs]
        try:
            for future in tqdm(as_completed(futures), total=len(futures), desc="rendering streets", unit="image"):
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _render_job(job: _Job) -> None:
    if job.fisheye:
        image, label = render(job.scene_seed, target_camera(job.size), TARGET_SENSOR, CameraOverlay())
    else:
        image, label = render(job.scene_seed, source_camera(job.size), SOURCE_SENSOR)
    _write_png(job.image, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    _write_png(job.label, label)


def _write_png(path: Path, pixels: np.ndarray) -> None:
    with whole_file(path) as temporary:
        if not cv2.imwrite(str(temporary), pixels):
            raise OSError(f"{path}: could not be written. Check that the folder is writable and the disk not full.")
