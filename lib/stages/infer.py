"""Stage 03: segment the test images with trained networks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from annotated_types import Len
from tqdm import tqdm

from lib.dataset import image_files, layout
from lib.diagnostics import plots
from lib.errors import Fault, InputError
from lib.options import Options, option
from lib.parallel import evenly_spaced
from lib.prediction.options import TestTimeOptions
from lib.run import Run, alone
from lib.synthesis.target_camera import TargetCamera, files_in, is_known

_STATISTICS_IMAGES = 32  # images from which statistics are taken


@dataclass(frozen=True, kw_only=True)
class InferInputs(Options):
    """Options that name the inputs of stage 03."""

    data: str = option("../data/sample", "data set in the competition's layout", identity=False)
    out: str = option("../outputs/demo", "run folder, with the result of 02_train", identity=False)
    checkpoint: str | Annotated[list[str], Len(1)] | None = option(
        None, "file, URL, release name, or list to average; target: best on frames; default: best by validation"
    )


@dataclass(frozen=True, kw_only=True)
class InferOptions(TestTimeOptions, InferInputs):
    """Options of stage 03."""

    overwrite: bool = option(
        False, "replace results of other options or inputs; the same ones are continued", identity=False
    )
    restart: bool = option(False, "begin anew, whatever results there are", identity=False)
    other_data: bool = option(False, "accept another data set than the run was made for", identity=False)

    def resolved(self) -> InferOptions:
        """Return the options with the files of the checkpoints, and the scales that "target" chooses."""
        from lib.internimage.checkpoints.releases import fetch  # here, because mmseg takes seconds to import
        from lib.prediction.selection import select, select_scale

        run, checkpoint = Run(self.out), self.checkpoint
        if self.needs_camera() and not is_known(run.augmented):
            found = f"{run.augmented / 'camera.yaml'} does not exist (expected for rectified_views and apply_overlay)"
            raise InputError(f"{found}. Run 01_augment with augment=True for this run folder first.")
        if checkpoint == "target":
            checkpoint = str(select(run.folder, self.data, self.device))
        elif checkpoint is None:
            run.need("train")
            checkpoint = str(run.best_checkpoint())
        sources = checkpoint if isinstance(checkpoint, list) else [checkpoint]
        options = replace(self, checkpoint=[str(fetch(source)) for source in sources])
        for config, file in options.members():
            if not config.is_file():
                raise InputError(f"{config} does not exist (expected with {file}). Run 02_train for this run first.")
        if self.scales != "target":
            return options
        return replace(options, scales=[select_scale(run.folder, options.members()[0][1], self.data, self.device)])

    def members(self) -> list[tuple[Path, Path]]:
        """Return config and file of each checkpoint; the config lies beside it, else it is the run's."""
        files = [Path(file) for file in self.checkpoint or ()]
        beside = [file.with_name("config.py") for file in files]
        return [(own if own.is_file() else Run(self.out).config, file) for own, file in zip(beside, files, strict=True)]

    def source_images(self) -> list[Path]:
        """Return the augmented images to whose features those of the test images are aligned."""
        items = layout.read_split(Run(self.out).augmented, "train_source") if self.feature_alignment else []
        return evenly_spaced([item.image for item in items], _STATISTICS_IMAGES)

    def is_whole(self) -> bool:
        """Return whether every test image has its mask and its picture."""
        run, items = Run(self.out), layout.read_split(self.data, "test")
        return all(path.exists() for item in items for path in _results(run, item))

    def needs_camera(self) -> bool:
        return bool(self.rectified_views or self.apply_overlay)

    def identity(self) -> dict:
        """Return the options that the masks depend on. Checkpoints go by name; their digests are among the inputs."""
        return super().identity() | {"checkpoint": [file.name for _, file in self.members()]}

    def inputs(self) -> dict[str, str]:
        """Return the digests of the files that the masks are made from, for resolved options."""
        run, data = Run(self.out), Path(self.data)
        images = [item.image for item in layout.read_split(data, "test")]
        files = [file for member in self.members() for file in member]
        files += [*(files_in(run.augmented) if self.needs_camera() else ()), *self.source_images()]
        return run.digests([data / "test.csv", *images], data) | run.digests(files, run.folder)


@alone
def infer(options: InferOptions) -> Path:
    """Write one class-id PNG per test image to ``masks``, and a picture of it to ``visualization``; return ``masks``.

    Finished masks are kept: an interrupted run continues.

    Raises:
        InputError: unfinished training, a checkpoint that does not fit, an option that needs an unknown camera, faulty
            images, or a folder of other options or inputs.
    """
    from lib.prediction.predictor import Predictor  # here, because mmseg takes seconds to import

    run, options = Run(options.out), options.resolved()
    check_target(options)
    layout.check(options.data, ("test",))
    items = layout.read_split(options.data, "test")
    target = TargetCamera.read(run.augmented) if options.needs_camera() else None
    if run.is_done("infer", options) and not options.restart:
        return run.masks
    member, *more = options.members()
    frames = evenly_spaced([item.image for item in items], _STATISTICS_IMAGES)
    predictor = Predictor(*member, options, more=more, target=target, frames=frames, source=options.source_images())
    run.claim("infer", options, options.overwrite, options.restart)  # last, because it deletes
    with run.recorded("infer", options) as record:
        todo = [item for item in items if not all(path.exists() for path in _results(run, item))]
        with tqdm(desc="infer", unit="image", total=len(items), initial=len(items) - len(todo), mininterval=1) as bar:
            for item, image, label in predictor.label_items(todo):
                picture, mask = _results(run, item)
                plots.write_picture(picture, plots.blend_label(image, label))
                image_files.write_png(mask, label)  # last: a mask has a picture of its own
                bar.update()
        record.update(data=str(Path(options.data).resolve()), images=len(items), device=options.torch_device())
    return run.masks


def check_target(options: InferOptions) -> None:
    """Raise InputError where ``data`` is another data set than the run was made for, unless ``other_data`` is set.

    A data set is known by its target frames: at least half of them were there when 01_augment ran.
    """
    run = Run(options.out)
    known = run.made_from("augment")
    if options.other_data or not known:
        return
    has_frames = (Path(options.data) / "train_target.csv").is_file()
    frames = [item.image for item in layout.read_split(options.data, "train_target")] if has_frames else []
    shared = sum(value in known for value in run.digests(frames, options.data).values())
    if shared * 2 < len(frames) or not shared:
        made_for = (run.entry("augment") or {}).get("results", {}).get("data", "another data set")
        found = f"{shared} of its {len(frames)} target frames are those that {run.augmented} was made for ({made_for})"
        raise InputError(Fault(options.data, found, "Correct data, or pass other_data=True (-p other_data true)."))


def _results(run: Run, item: layout.Item) -> tuple[Path, Path]:
    return run.visualization / f"{item.id}.jpg", run.masks / f"{item.id}.png"
