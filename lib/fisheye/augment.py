"""Make the labelled source look as if the target camera had taken it (stage 01).

Each source image is bent through a lens, turned a little, takes on the colours of a random target frame, and gets
the target's static surroundings pasted over it as class Background. The result is a data set in the
competition's layout with 13 classes. Without known cameras, every image draws its own lens from a family that ranges from mild to strong: the network then
learns a range of distortions that contains the target's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np
import pandas as pd
import yaml

from lib import dataset
from lib.fisheye import background, cameras, colour, warp
from lib.runs import InputError, claim, finished, read_yaml, recorded, whole_file, write_yaml

SPLITS = ("train_source", "val_source")
HALF_FOV = (0.55, 1.15)
"""Range (rad) of the guessed angle between the optical axis and the source image's side: more is more bent."""
ZOOM = (0.9, 1.25)
"""Range of the guessed scale; at 1 the bent source just fills the target's width."""
TURN = 0.05
"""Largest yaw, pitch and roll (rad) by which the virtual camera is turned."""


@dataclass(frozen=True)
class Draw:
    """What chance decides about one image.

    Attributes:
        half_fov, zoom: the lens of the guessed family.
        yaw, pitch, roll: turn of the virtual camera (rad).
        frame: the target frame whose colours the image takes on, as a fraction of their number.
    """

    half_fov: float
    zoom: float
    yaw: float
    pitch: float
    roll: float
    frame: float

    @classmethod
    def by(cls, rng: np.random.Generator) -> Draw:
        turn = (-TURN, TURN)
        return cls(*(float(rng.uniform(*limits)) for limits in (HALF_FOV, ZOOM, turn, turn, turn, (0, 1))))

    def cameras(self, source_size: tuple[int, int], target_size: tuple[int, int]):
        """The guessed source and target cameras for images of these (width, height)."""
        source = cameras.Pinhole.from_fov(source_size, 2 * self.half_fov)
        target = cameras.Fisheye.from_fov(target_size, 2 * self.half_fov)
        return source, replace(target, fx=target.fx * self.zoom, fy=target.fy * self.zoom)


def bend(
    image: np.ndarray,
    label: np.ndarray,
    draw: Draw,
    surroundings: background.Background,
    colours: np.ndarray | None = None,
    known: tuple[cameras.Camera, cameras.Camera] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """One source image as the target camera would have seen it.

    Args:
        image: ``uint8 (h, w, 3)`` RGB.
        label: ``uint8 (h, w)`` class ids.
        draw: lens and turn; with ``known`` cameras only the turn counts.
        surroundings: pasted over the result, whose size it gives.
        colours: ``float32 (2, 3)`` from :func:`lib.fisheye.colour.statistics` that the result takes on.
        known: the true (source, target) cameras, scaled here to the images' sizes.

    Returns:
        ``uint8 (H, W, 3)`` RGB and ``uint8 (H, W)`` class ids with Background; IGNORE where neither the source
        nor the surroundings show anything.
    """
    target_size = surroundings.mask.shape[::-1]
    source_size = label.shape[::-1]
    if known is None:
        source, target = draw.cameras(source_size, target_size)
    else:
        source, target = known[0].scaled(source_size), known[1].scaled(target_size)
    table = warp.remap_table(target, source, warp.rotation(draw.yaw, draw.pitch, draw.roll))
    image, label = warp.warp_image(image, table), warp.warp_label(label, table)
    view = warp.covered(table) & ~surroundings.mask
    if colours is not None and view.any():
        image = np.where(view[..., None], colour.transfer(image, view, colours), image)
    return surroundings.paste(image, label)


def augment(
    data: str | Path,
    out: str | Path,
    *,
    augment: bool = True,
    cameras_file: str | Path | None = None,
    match_colours: bool = True,
    copies: int = 1,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Stage 01: write ``out/augmented`` from the source images and target frames in ``data``.

    Goes on where an interrupted run stopped; the same seed gives the same files.

    Args:
        data: data set in the competition's layout.
        out: run folder.
        augment: False only resizes the source to the target's size: the baseline to compare with.
        cameras_file: YAML with the known cameras under ``source`` and ``target`` (see
            :meth:`lib.fisheye.cameras.Camera.to_dict`); None draws lenses from a guessed family.
        match_colours: give each image the colours of a target frame drawn for it.
        copies: bent versions of each training image, each with its own draw.
        seed: of all random draws.
        overwrite: replace an augmented set made with other parameters.

    Returns:
        The folder, itself in the competition's layout (``train_source.csv``, ``val_source.csv``; each row
        carries its draw), with ``background.png``, ``plate.png`` and ``camera.yaml``.

    Raises:
        InputError: faulty data, or a folder of other parameters.
    """
    if copies < 1:
        raise InputError(f"copies: {copies} (expected: 1 or more)")
    parameters = {
        "data": str(Path(data).resolve()), "augment": augment,
        "cameras_file": str(cameras_file) if cameras_file else None, "match_colours": match_colours,
        "copies": copies, "seed": seed,
    }  # fmt: skip
    known = _read_cameras(cameras_file) if cameras_file else None
    dataset.check(data, (*SPLITS, "train_target"))
    folder = claim(Path(out) / "augmented", parameters, overwrite)
    if finished(out, "augment") and all((folder / f"{split}.csv").exists() for split in SPLITS):
        return folder
    with recorded(out, "augment", parameters) as results:
        frames = [item.image for item in dataset.read_split(data, "train_target")]
        if augment:
            change = _Bend(_surroundings(folder, frames), frames if match_colours else None, known)
        else:
            change = _Resize(dataset.read_image(frames[0]).shape[1::-1])
        for split in SPLITS:
            jobs = list(_jobs(folder, data, split, copies if split == "train_source" else 1, seed))
            dataset.in_threads(lambda job: job.run(change), jobs, split)
            table = pd.DataFrame([job.row() for job in jobs])
            with whole_file(folder / f"{split}.csv") as temporary:
                table.to_csv(temporary, index=False)
            results[split] = len(jobs)
        _describe_cameras(folder, known)
    return folder


class _Bend:
    """Turns (image, label, draw) of the source into (image, label) of the target camera."""

    def __init__(self, surroundings, frames, known):
        self.surroundings, self.known = surroundings, known
        view = ~surroundings.mask
        self.colours = frames and [colour.statistics(dataset.read_image(f), view) for f in frames]

    def __call__(self, image, label, draw: Draw):
        colours = self.colours and self.colours[int(draw.frame * len(self.colours))]
        return bend(image, label, draw, self.surroundings, colours, self.known)


class _Resize:
    """Turns (image, label, draw) into (image, label) of the target's size; what there is without augmentation."""

    def __init__(self, size: tuple[int, int]):
        self.size = size

    def __call__(self, image, label, draw: Draw):
        image = cv2.resize(image, self.size, interpolation=cv2.INTER_AREA)
        return image, cv2.resize(label, self.size, interpolation=cv2.INTER_NEAREST_EXACT)


@dataclass(frozen=True)
class _Job:
    item: dataset.Item
    id: str
    image: Path
    label: Path
    draw: Draw

    def row(self) -> dict:
        def relative(path: Path) -> str:
            return f"./{path.parent.name}/{path.name}"

        draw = {k: round(v, 6) for k, v in vars(self.draw).items()}
        return {"id": self.id, "img_path": relative(self.image), "gt_path": relative(self.label), **draw}

    def run(self, change) -> None:
        if self.label.exists() and self.image.exists():  # both are written whole
            return
        image, label = change(dataset.read_image(self.item.image), dataset.read_label(self.item.label), self.draw)
        dataset.write_png(self.image, image)
        dataset.write_png(self.label, label)


def _jobs(folder: Path, data: str | Path, split: str, copies: int, seed: int) -> Iterator[_Job]:
    for item in dataset.read_split(data, split):
        for copy in range(copies):
            name = item.id if copies == 1 else f"{item.id}_{copy}"
            # A generator of its own per image: the draw depends neither on the order nor on other images.
            rng = np.random.default_rng([seed, crc32(item.id.encode()), copy])
            yield _Job(item, name, folder / f"{split}_image" / f"{name}.png",
                       folder / f"{split}_gt" / f"{name}.png", Draw.by(rng))  # fmt: skip


def _surroundings(folder: Path, frames: list[Path]) -> background.Background:
    found = background.mine(frames)
    dataset.write_png(folder / "background.png", found.mask.astype(np.uint8) * 255)
    dataset.write_png(folder / "plate.png", found.plate)
    return found


def _read_cameras(path: str | Path) -> tuple[cameras.Camera, cameras.Camera]:
    if not Path(path).is_file():
        raise InputError(f"cameras_file: {path} does not exist.")
    try:
        found = read_yaml(path)
        return cameras.from_dict(found["source"]), cameras.from_dict(found["target"])
    except (KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: {error} (expected: a camera under `source` and one under `target`)") from None


def _describe_cameras(folder: Path, known) -> None:
    if known is None:
        lens = {"half_fov": list(HALF_FOV), "zoom": list(ZOOM), "turn": TURN}
        write_yaml(folder / "camera.yaml", {"guessed": "one equidistant lens per image, drawn evenly", **lens})
    else:
        write_yaml(folder / "camera.yaml", {"source": known[0].to_dict(), "target": known[1].to_dict(), "turn": TURN})
