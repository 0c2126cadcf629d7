"""Rehearsal: a data set with known target labels, from a labelled source and unlabelled target frames.

A rehearsal shows what to expect of one's own data. Four of five validation images are held out and rendered by the
estimated target camera, with its lens, overlay, colours and noise. In turn they become ``train_target`` and ``test``;
their labels go to ``withheld/``. All of them have one field of view, as wide as the target's (120 degrees at most).
Training images stay as they are. A rehearsal does not test the kind of lens: training renders by the same formula,
though at a scale that it does not know.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from lib.dataset import image_files, layout
from lib.dataset.classes import BACKGROUND, IGNORE
from lib.errors import InputError
from lib.files import digest, digest_of, read_yaml, write_yaml
from lib.parallel import in_threads
from lib.synthesis.estimate import MAX_FILL_FOV_RAD, estimate_target, horizontal_fov
from lib.synthesis.params import AugmentParams
from lib.synthesis.target_camera import TargetCamera

VALIDATION_STEP = 5
"""Every fifth validation image stays one."""
_RENDERED = ("train_target", "test")
_READ = ("train_source", "val_source", "train_target")


def rehearse(data: str | Path, out: str | Path, *, seed: int = 0) -> Path:
    """Write the rehearsal's data set into ``out``; the same seed gives the same files.

    Args:
        data: data set in the competition's layout.
        out: a new folder, or one of the same rehearsal; ``withheld/camera`` holds the estimated target camera.
        seed: seed of noise, blur and colours.

    Returns:
        ``out`` as a path.

    Raises:
        InputError: faulty data, fewer than 3 validation images, no lens estimate, or something else in ``out``.
    """
    out = Path(out)
    layout.check(data, _READ)
    training, validation = layout.read_split(data, "train_source"), layout.read_split(data, "val_source")
    if len(validation) < 3:
        raise InputError(f"val_source: {len(validation)} images (expected: 3 or more, to hold some of them out)")
    # By content: a data set that was moved or copied is the same one.
    parameters = {"rehearsal": _content(Path(data)), "seed": seed}
    if out.is_file() or (out.exists() and any(out.iterdir()) and read_yaml(out / "parameters.yaml") != parameters):
        raise InputError(f"{out} holds something else (expected: a new folder, or one of the same data and seed)")
    frames = [item.image for item in layout.read_split(data, "train_target")]
    estimate = estimate_target(frames, [item.image for item in training])
    if estimate.camera.lens is None:
        raise InputError(f"{data}: the target's frames tell too little of its lens (expected: frames with long edges)")
    write_yaml(out / "parameters.yaml", parameters)
    estimate.camera.write(out / "withheld" / "camera")
    held_out = [item for number, item in enumerate(validation) if number % VALIDATION_STEP]
    names = _render(held_out, TargetCamera.read(out / "withheld" / "camera"), out, seed)
    for split, items in (("train_source", training), ("val_source", validation[::VALIDATION_STEP])):
        labelled = [(item.id, item.image.resolve(), item.label.resolve()) for item in items if item.label]
        layout.write_table(out / f"{split}.csv", layout.SPLITS[split], labelled)
    for split in _RENDERED:
        images = [(name, f"./{split}_image/{name}.png") for name in names[split]]
        layout.write_table(out / f"{split}.csv", layout.SPLITS[split], images)
    layout.write_sample(out, names["test"])
    return out


def summary(out: str | Path) -> str:
    """Return one line with the number of images per split."""
    counts = (f"{len(layout.read_split(out, split))} {split}" for split in layout.SPLITS)
    return f"{out}: {', '.join(counts)}"


def _content(data: Path) -> str:
    """Return the digest of all files that a rehearsal is made from."""
    items = [item for split in _READ for item in layout.read_split(data, split)]
    files = [file for item in items for file in (item.image, item.label) if file]
    return digest_of([digest(file) for file in (*(data / f"{split}.csv" for split in _READ), *files)])


def _render(items: list[layout.Item], target: TargetCamera, out: Path, seed: int) -> dict[str, list[str]]:
    """Write the rendered images and their withheld labels; return the images' names per split."""
    width_rad = MAX_FILL_FOV_RAD
    if target.lens:
        width_rad = min(width_rad, horizontal_fov(target.lens, target.overlay.mask))
    target = replace(target, source_fov=(width_rad, width_rad), motion=False, mirror=False)
    rng = np.random.default_rng(seed)
    # One camera in varying weather: random parameters of the lens take their middle.
    lens = {"fov": 0.5, "zoom": 0.5, "k1_offset": 0.0, "vignette": 0.0, "jpeg": 101.0}
    names: dict[str, list[str]] = {split: [] for split in _RENDERED}
    jobs = []
    for number, item in enumerate(items):
        split = _RENDERED[number % 2]
        names[split].append(f"{split.upper()}_{number // 2:04d}")
        jobs.append((item, split, names[split][-1], replace(AugmentParams.sample(rng), **lens)))

    def write(job: tuple[layout.Item, str, str, AugmentParams]) -> None:
        item, split, name, params = job
        assert item.label
        image, label = target.transform(image_files.read_image(item.image), image_files.read_label(item.label), params)
        label[label == BACKGROUND] = IGNORE
        image_files.write_png(out / f"{split}_image" / f"{name}.png", image)
        image_files.write_png(out / "withheld" / f"{split}_gt" / f"{name}.png", label)

    in_threads(write, jobs, "rehearsal")
    return names
