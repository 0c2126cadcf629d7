"""Stage 01: render the labelled source as the target camera would have taken it.

With ``copies=0`` training transforms its crops itself; the folder then holds what that needs.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal
from zlib import crc32

import cv2
import matplotlib.pyplot as plt
import numpy as np
import yaml
from annotated_types import Ge, Gt, Len, Lt

from lib.camera import models
from lib.dataset import image_files, layout
from lib.dataset.rare_classes import copies_per_item, rare_class_weights
from lib.diagnostics.explore import lens_figure
from lib.errors import InputError
from lib.files import read_yaml, whole_file
from lib.options import Options, option
from lib.parallel import in_threads
from lib.run import Run, alone
from lib.synthesis.estimate import TargetEstimate, estimate_target
from lib.synthesis.params import AugmentParams

SPLITS = ("train_source", "val_source")
_READ = (*SPLITS, "train_target")
_Image = tuple[layout.Item, AugmentParams, dict]
Degrees = Annotated[float, Gt(0), Lt(180)]


@dataclass(frozen=True, kw_only=True)
class AugmentOptions(Options):
    """Options of stage 01."""

    data: str = option("../data/sample", "data set in the competition's layout", identity=False)
    out: str = option("../outputs/demo", "run folder", identity=False)
    augment: bool = option(True, "transform the source; otherwise only resize it, which is the baseline")
    lens: Literal["estimated", "random", "fixed", "none"] = option(
        "estimated", "estimated: from target frames; random: one per image; fixed: one for all images; none: no lens"
    )
    cameras_file: str | None = option(
        None, "YAML file of known source and target cameras, used instead of the option lens"
    )
    source_fov_deg: Annotated[list[Degrees], Len(2, 2)] | None = option(
        None,
        "with lens estimated: source's horizontal field of view, least and largest; default: estimated",
        expected="two angles between 0 and 180 degrees, the smaller first, or null",
    )
    mirror: bool = option(True, "fill the view beyond the source with its mirror images; otherwise leave it unlabelled")
    motion: bool = option(True, "rotate and shift the target camera a little from image to image")
    appearance: Literal["statistics", "fourier", "none"] = option(
        "statistics", "statistics: match a target frame's colours; fourier: its low frequencies; none: unchanged"
    )
    copies: Annotated[int, Ge(0)] = option(
        1, "versions per training image; from 2 on, more for rare classes; 0: training transforms its own crops"
    )
    seed: Annotated[int, Ge(0)] = option(0, "seed of all random parameters")
    overwrite: bool = option(
        False, "replace results of other options or inputs; the same ones are continued", identity=False
    )
    restart: bool = option(False, "begin anew, whatever results there are", identity=False)

    def __post_init__(self):
        super().__post_init__()
        if self.source_fov_deg and self.source_fov_deg[0] > self.source_fov_deg[1]:
            raise InputError(f"source_fov_deg: {self.source_fov_deg} (expected: {self.expected('source_fov_deg')})")
        if self.copies == 0 and not self.augment:
            raise InputError("copies: 0 (expected: 1 or more without augment)")

    def is_whole(self) -> bool:
        """Return whether the tables and all files that they name are there; a moved data set's are not."""
        folder = Run(self.out).augmented
        tables = [split for split in _READ if (folder / f"{split}.csv").is_file()]
        items = [item for split in tables for item in layout.read_split(folder, split)]
        return tables == list(_READ) and all(file.exists() for i in items for file in (i.image, i.label) if file)

    def inputs(self) -> dict[str, str]:
        """Return the digests of the files that the augmented set is made from."""
        items = [item for split in _READ for item in layout.read_split(self.data, split)]
        files = [file for item in items for file in (item.image, item.label) if file]
        tables = [Path(self.data) / f"{split}.csv" for split in _READ]
        cameras = [self.cameras_file] if self.cameras_file else []
        return Run(self.out).digests([*tables, *files, *cameras], self.data)


@alone
def augment(options: AugmentOptions) -> Path:
    """Write the augmented set into the run folder; an interrupted run continues, the same seed gives the same files.

    Returns the folder, in the competition's layout with 13 classes. Each row of the tables has its parameters, a
    training row also its ``weight``: how often to draw it so that rare classes are seen. The target's frames stay where
    they are; the target camera's files and ``lens.png`` lie beside the tables.

    Raises:
        InputError: faulty data, unknown cameras, or a folder of other options or inputs.
    """
    run = Run(options.out)
    cameras = _read_cameras(options.cameras_file) if options.cameras_file else None
    layout.check(options.data, _READ)
    folder = run.claim("augment", options, options.overwrite, options.restart)
    if run.is_done("augment", options):
        return folder
    with run.recorded("augment", options) as results:
        targets = layout.read_split(options.data, "train_target")
        train_items = layout.read_split(options.data, "train_source")
        if options.augment:
            estimate = estimate_target(
                [item.image for item in targets],
                [item.image for item in train_items],
                lens=options.lens,
                cameras=cameras,
                source_fov_deg=options.source_fov_deg,
                appearance=options.appearance,
                motion=options.motion,
                mirror=options.mirror,
            )
            _write_estimate(estimate, folder)
            results.update(estimate.results())
            render = estimate.camera.transform
        else:
            render = partial(_resize, image_files.read_image(targets[0].image).shape[1::-1])
        weights = rare_class_weights(train_items)
        for split in SPLITS:
            copies = options.copies if split == "train_source" else 1
            images = list(_images(options.data, folder, split, copies, options.seed, weights))
            if copies:
                in_threads(partial(_write_image, folder, render), images, split)
            rows = [row for _, _, row in images]
            layout.write_table(folder / f"{split}.csv", list(rows[0]), [list(row.values()) for row in rows])
            results[split] = len(images)
        frames = [(item.id, _relative(item.image, folder)) for item in targets]
        results["data"] = str(Path(options.data).resolve())
        layout.write_table(folder / "train_target.csv", layout.SPLITS["train_target"], frames)
    return folder


def _write_estimate(estimate: TargetEstimate, folder: Path) -> None:
    if report := estimate.report():
        print(report)
    if estimate.lens:
        figure = lens_figure(estimate.lens)
        with whole_file(folder / "lens.png") as temporary:
            figure.savefig(temporary, dpi=80)
        plt.close(figure)
    estimate.camera.write(folder, **estimate.notes())


def _resize(size: tuple[int, int], image: np.ndarray, label: np.ndarray, params: AugmentParams):
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return image, cv2.resize(label, size, interpolation=cv2.INTER_NEAREST_EXACT)


def _images(data: str, folder: Path, split: str, copies: int, seed: int, weights: dict[str, float]) -> Iterator[_Image]:
    """Yield the images of a split: their origin, their parameters, and their row of the table."""
    items = layout.read_split(data, split)
    for item, number in zip(items, copies_per_item(items, copies, weights), strict=True):
        # More copies of an image: each copy is drawn less often.
        weight = {"weight": round(weights[item.id] * len(items) / max(1, number), 6)} if split == "train_source" else {}
        if not number:
            assert item.label
            paths = {"img_path": _relative(item.image, folder), "gt_path": _relative(item.label, folder)}
            yield item, AugmentParams.neutral(), {"id": item.id} | paths | weight
        for copy in range(number):
            name = item.id if copies == 1 else f"{item.id}_{copy}"
            # A generator per image: its parameters depend neither on the order nor on other images.
            params = AugmentParams.sample(np.random.default_rng([seed, crc32(item.id.encode()), copy]))
            paths = {"img_path": f"./{split}_image/{name}.png", "gt_path": f"./{split}_gt/{name}.png"}
            yield item, params, {"id": name} | paths | params.to_row() | weight


def _relative(file: Path, folder: Path) -> str:
    """Return a path that stays right when data set and run folder move together, as in a copied project."""
    return os.path.relpath(file.resolve(), folder.resolve())


def _write_image(folder: Path, render: Callable, planned: _Image) -> None:
    item, params, row = planned
    image_file, label_file = folder / row["img_path"], folder / row["gt_path"]
    if label_file.exists() and image_file.exists():  # both appear whole or not at all
        return
    assert item.label
    image, label = render(image_files.read_image(item.image), image_files.read_label(item.label), params)
    # Compression would take as long as all the rest, and training would undo it at every step.
    image_files.write_png(image_file, image, compress=False)
    image_files.write_png(label_file, label)


def _read_cameras(path: str) -> tuple[models.Camera, models.Camera]:
    if not Path(path).is_file():
        raise InputError(f"cameras_file: {path} does not exist.")
    try:
        found = read_yaml(path)
        return models.from_dict(found["source"]), models.from_dict(found["target"])
    except (KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: {error} (expected: a camera under `source` and one under `target`)") from None
