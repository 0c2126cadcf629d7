"""Make the labelled source look as if the target camera had taken it (stage 01).

What the target camera is like is found from its own frames: its static surroundings, its lens, its colours. Every
source image is then bent as :mod:`lib.synthesis.target_camera` says, once or several times, rare classes more often. The result
is a data set in the competition's layout with 13 classes. With ``copies=0`` training images are bent while
training instead, anew each time; the folder then holds what that needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np
import pandas as pd
import yaml

from lib.camera import models
from lib.dataset import image_files, layout
from lib.dataset.rare_classes import copies_per_item, rare_class_weights
from lib.errors import InputError
from lib.files import read_yaml, whole_file
from lib.parallel import in_threads
from lib.run import claim, finished, recorded
from lib.synthesis import params as params_module
from lib.synthesis import target_camera
from lib.synthesis.source_fov import choose_source_fov, horizontal_fov
from lib.target import appearance as appearance_module
from lib.target import lens as lens_module
from lib.target import overlay_groups

SPLITS = ("train_source", "val_source")
ASSUMED = ("fixed", "none")
LENSES = ("estimated", "random", *ASSUMED)
_LOOKS = 64
"""Target frames whose colours are kept."""


def augment(
    data: str | Path,
    out: str | Path,
    *,
    augment: bool = True,
    lens: str = "estimated",
    cameras_file: str | Path | None = None,
    motion: bool = True,
    source_fov: Sequence[float] | None = None,
    mirror: bool = True,
    appearance: str = "statistics",
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
        lens: ``"estimated"`` to the target's frames, where they say enough; ``"random"``: every image draws its own
            from a family that ranges from mild to strong; ``"fixed"``: the middle of that family for all;
            ``"none"``: no bending, the source is resized to the target's size.
        cameras_file: YAML with the known cameras under ``source`` and ``target`` (see
            :meth:`lib.camera.models.Camera.to_dict`), used instead.
        source_fov: least and largest horizontal field of view (degrees) that a source image is taken to have where the
            lens is fitted. None: around what the source images' right angles say, or wider, until the largest fills
            the target's view.
        mirror: fill the target's view beyond the source with mirror images of it; False leaves it without labels.
        motion: turn and shift the virtual target camera a little, anew for every image.
        appearance: how images take on the target's look, see :data:`lib.synthesis.target_camera.APPEARANCES`.
        copies: bent versions per training image on average, each with its own draw; from 2 on, images of rare
            classes get more of them. 0: training bends its images itself.
        seed: of all random draws.
        overwrite: replace an augmented set made with other parameters.

    Returns:
        The folder, itself in the competition's layout (``train_source.csv``, ``val_source.csv``; each row
        carries its draw, a training row also its ``weight``, how often to draw it so that rare classes are
        seen), with ``overlay_mask.png``, ``overlay.png``, ``lens.png`` and ``camera.yaml``. ``train_target.csv``
        names the target frames where they lie.

    Raises:
        InputError: faulty data or parameters, or a folder of other parameters.
    """
    if copies < 0 or (copies == 0 and not augment):
        raise InputError(f"copies: {copies} (expected: 1 or more, or 0 with augment to bend while training)")
    if lens not in LENSES:
        raise InputError(f"lens: {lens!r} (expected one of: {', '.join(LENSES)})")
    view = None if source_fov is None else _degrees(source_fov)
    if appearance not in target_camera.APPEARANCES:
        raise InputError(f"appearance: {appearance!r} (expected one of: {', '.join(target_camera.APPEARANCES)})")
    parameters = {
        "data": str(Path(data).resolve()),
        "augment": augment,
        "lens": lens,
        "cameras_file": str(cameras_file) if cameras_file else None,
        "motion": motion,
        "source_fov": view,
        "mirror": mirror,
        "appearance": appearance,
        "copies": copies,
        "seed": seed,
    }
    known = _read_cameras(cameras_file) if cameras_file else None
    layout.check(data, (*SPLITS, "train_target"))
    folder = claim(Path(out) / "augmented", parameters, overwrite=overwrite)
    if finished(out, "augment") and all((folder / f"{split}.csv").exists() for split in SPLITS):
        return folder
    with recorded(out, "augment", parameters) as results:
        frames = [item.image for item in layout.read_split(data, "train_target")]
        if augment:
            if not known and lens in ASSUMED:
                known = _assumed(lens, layout.read_split(data, "train_source")[0].image, frames[0])
            lens = "given" if cameras_file else lens
            how = {"motion": motion, "mirror": mirror, "appearance": appearance}
            sources = [item.image for item in layout.read_split(data, "train_source")]
            change = estimate_target(frames, sources, folder, known, lens, view, results, **how).transform
        else:
            change = _Resize(image_files.read_image(frames[0]).shape[1::-1])
        weights = rare_class_weights(layout.read_split(data, "train_source"))
        for split in SPLITS:
            number = copies if split == "train_source" else 1
            jobs = list(_jobs(folder, data, split, number, seed, weights))
            if number:
                in_threads(lambda job: job.run(change), jobs, split)
            table = pd.DataFrame([job.row() for job in jobs])
            with whole_file(folder / f"{split}.csv") as temporary:
                table.to_csv(temporary, index=False)
            results[split] = len(jobs)
        _name_targets(data, folder)
    return folder


def _name_targets(data: str | Path, folder: Path) -> None:
    """Write ``folder/train_target.csv``, by which training finds the frames that it adapts to."""
    items = layout.read_split(data, "train_target")
    with whole_file(folder / "train_target.csv") as temporary:
        rows = [{"id": item.id, "img_path": str(item.image.resolve())} for item in items]
        pd.DataFrame(rows).to_csv(temporary, index=False)


def estimate_target(
    frames, sources, folder: Path, known, lens: str, source_fov: list[float] | None, results: dict, **how
) -> target_camera.TargetCamera:
    """The target camera from its ``frames`` (paths), kept in ``folder``.

    Args:
        sources: paths of source images.
        known: its (source, target) cameras, or None.
        lens: one of ``LENSES``, or ``"given"``; with known cameras only a note.
        source_fov: see :func:`augment`.
        results: takes how sure the lens is, and what the source is taken to see.
        how: further fields of :class:`lib.synthesis.target_camera.TargetCamera`.
    """
    groups = overlay_groups.estimate_overlays(frames)
    found = [one.background for one in groups]
    if len(groups) > 1:
        results["surroundings"] = [round(one.share, 3) for one in groups]
        print(f"surroundings: {len(groups)} kinds, in {', '.join(f'{one.share:.0%}' for one in groups)} of the frames")
    looked = [image_files.read_image(frames[i]) for i in _spread(len(frames), _LOOKS)]
    shown = np.array([overlay_groups.match_overlay(found, frame) for frame in looked])
    views = [~found[i].mask for i in shown]
    statistics = np.stack(
        [
            appearance_module.statistics(frame, view if view.any() else None)
            for frame, view in zip(looked, views, strict=True)
        ]
    )
    thumbs = np.stack([appearance_module.thumbnail(frame, view) for frame, view in zip(looked, views, strict=True)])
    source, camera = known or (None, None)
    notes = {"lens": lens if known else "guessed for each image"}
    if not known and lens == "estimated":
        # Other surroundings may mean another lens.
        fitted = lens_module.estimate_lens(groups[0].paths, groups[0].background)
        results["lens_confidence"] = round(fitted.confidence, 3)
        notes["report"] = fitted.report
        print(f"lens: {fitted.report}")
        _keep_figure(fitted, folder / "lens.png")
        if fitted.confidence > 0:
            camera, notes["lens"] = fitted.camera, "estimated"
            chosen = choose_source_fov(sources, horizontal_fov(camera, groups[0].background.mask), source_fov)
            how["source_fov"], results["source_fov"] = chosen.range_rad, list(chosen.range_deg)
            if chosen.report:
                notes["source_report"] = chosen.report
                print(f"source: {chosen.report}")
    target = target_camera.TargetCamera(
        found[0],
        camera,
        source,
        statistics,
        thumbs,
        more_overlays=tuple(found[1:]),
        overlay_shares=tuple(one.share for one in groups),
        frame_overlays=shown,
        **how,
    )
    target.write(folder, **notes)
    return target


class _Resize:
    """Turns (image, label, draw) into (image, label) of the target's size; what there is without augmentation."""

    def __init__(self, size: tuple[int, int]):
        self.size = size

    def __call__(self, image, label, params: params_module.AugmentParams):
        image = cv2.resize(image, self.size, interpolation=cv2.INTER_AREA)
        return image, cv2.resize(label, self.size, interpolation=cv2.INTER_NEAREST_EXACT)


@dataclass(frozen=True)
class _Job:
    folder: Path
    item: layout.Item
    id: str
    image: Path
    label: Path
    more: dict
    params: params_module.AugmentParams

    def row(self) -> dict:
        def named(path: Path) -> str:
            return f"./{path.relative_to(self.folder)}" if path.is_relative_to(self.folder) else str(path)

        return {"id": self.id, "img_path": named(self.image), "gt_path": named(self.label), **self.more}

    def run(self, change) -> None:
        if self.label.exists() and self.image.exists():  # both are written whole
            return
        image, label = change(
            image_files.read_image(self.item.image), image_files.read_label(self.item.label), self.params
        )
        # Compressing takes as long as all the rest, and training would undo it at every step.
        image_files.write_png(self.image, image, compress=False)
        image_files.write_png(self.label, label)


def _jobs(folder: Path, data, split: str, copies: int, seed: int, weights: dict[str, float]) -> Iterator[_Job]:
    items = layout.read_split(data, split)
    for item, number in zip(items, copies_per_item(items, copies, weights), strict=True):
        # Where rare images have more copies, each copy is drawn the less often.
        more = {"weight": round(weights[item.id] * len(items) / max(1, number), 6)} if split == "train_source" else {}
        if not number:
            yield _Job(
                folder,
                item,
                item.id,
                item.image.resolve(),
                item.label.resolve(),
                more,
                params_module.AugmentParams.neutral(),
            )
        for copy in range(number):
            name = item.id if copies == 1 else f"{item.id}_{copy}"
            # A generator of its own per image: the draw depends neither on the order nor on other images.
            params = params_module.AugmentParams.sample(np.random.default_rng([seed, crc32(item.id.encode()), copy]))
            yield _Job(
                folder,
                item,
                name,
                folder / f"{split}_image" / f"{name}.png",
                folder / f"{split}_gt" / f"{name}.png",
                params.to_row() | more,
                params,
            )


def _keep_figure(fitted: lens_module.LensEstimate, path: Path) -> None:
    import matplotlib.pyplot as plt

    figure = fitted.figure()
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=80)
    plt.close(figure)


def _spread(count: int, most: int) -> list[int]:
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()


def _assumed(lens: str, source: Path, target: Path) -> tuple[models.Camera, models.Camera]:
    """The two cameras where the lens is not looked for; one image of each camera tells its size."""
    source_size, target_size = (image_files.read_image(path).shape[1::-1] for path in (source, target))
    if lens == "none":
        same = models.Pinhole.from_fov(target_size, 1.0)
        return same.scaled(source_size), same
    return target_camera.random_cameras(0.5, 0.5, source_size, target_size)


def _degrees(view) -> list[float]:
    try:
        least, most = map(float, view)
        sound = 0 < least <= most < 180
    except (TypeError, ValueError):
        sound = False
    if not sound:
        raise InputError(f"source_fov: {view!r} (expected: two angles between 0 and 180 degrees, the smaller first)")
    return [least, most]


def _read_cameras(path: str | Path) -> tuple[models.Camera, models.Camera]:
    if not Path(path).is_file():
        raise InputError(f"cameras_file: {path} does not exist.")
    try:
        found = read_yaml(path)
        return models.from_dict(found["source"]), models.from_dict(found["target"])
    except (KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: {error} (expected: a camera under `source` and one under `target`)") from None
