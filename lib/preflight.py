"""Preflight: all faults that can be seen before long work, in one list, and the plan of a run."""

import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lib import files, recipes
from lib.claims import changed, listed
from lib.errors import InputError, check_all
from lib.estimates import Step, steps
from lib.files import read_yaml
from lib.options import Options
from lib.run import Run, environment
from lib.stages import augment, infer, submit, train
from lib.training.hardware import Hardware

_RESERVE_BYTES = 2**26  # of disk that a run leaves free


def check(
    run: Run, data: str | Path, planned: Mapping[str, Options], overwrite: bool = False
) -> tuple[list[Step], list[str]]:
    """Check everything that the stages ``planned`` (options by name, in order) need.

    Return what they will do, and reports on the data. Each stage calls the same functions again before it claims its
    folder.

    Raises:
        InputError: the only fault, or a list of all faults.
    """
    data_checks = list(_data_checks(planned))
    checks: list[Callable] = [partial(_check_place, run, planned), *_checks(run, data, planned, overwrite)]
    with files.discarded():  # a fault leaves no trace
        with recipes.quiet():
            check_all([*checks, *data_checks])
            found = steps(run, data, planned)
        check_all([partial(_check_disk, run, found), *(partial(_check_gpu_memory, step) for step in found)])
    return found, [report() for report in data_checks]  # notes in the run folder that the files are sound


def other_versions(run: Run, planned: Mapping[str, Options]) -> list[str]:
    """Return a sentence for each finished stage that the planned ones build on and other versions made."""
    here, notes = environment()["versions"] if planned else {}, []
    for stage in ("augment", "train", "infer"):
        there = ((run.entry(stage) or {}).get("versions") or {}) if stage not in planned else {}
        names = [name for name, version in there.items() if version != here.get(name, version)]
        if names:
            before, now = (", ".join(f"{name} {found[name]}" for name in names) for found in (there, here))
            notes.append(f"{stage} was made with {before}; here is {now}. For one version, begin in another --out.")
    return notes


def stale(run: Run, data: str | Path, planned: Mapping[str, Options]) -> list[str]:
    """Return a sentence for each earlier stage, not among the planned ones, whose input files changed since it ran."""
    notes = []
    for stage, folder in {"augment": Path(data), "train": run.augmented}.items():
        known = {} if stage in planned else run.made_from(stage)
        files = {name: folder / name for name in known if Path(name).suffix and not name.startswith("…")}
        now = run.digests(files.values(), folder)
        if names := [name for name in files if now.get(name) != known[name]]:
            notes.append(f"{stage} ran with other inputs ({listed(names)}). --from {stage} --resume makes it anew.")
    return notes


def _data_checks(planned: Mapping[str, Options]) -> Iterator[Callable]:
    for options in planned.values():
        if isinstance(options, augment.AugmentOptions):
            yield partial(augment.check_data, options)
        elif isinstance(options, infer.InferOptions):
            yield partial(infer.check_data, options)


def _checks(run: Run, data: str | Path, planned: Mapping[str, Options], overwrite: bool) -> Iterator[Callable]:
    """Yield the other checks of each stage; each raises InputError."""
    for stage, options in planned.items():
        if not overwrite:
            yield partial(_check_former, run, stage, options)
        if isinstance(options, augment.AugmentOptions):
            yield partial(augment.check_cameras, options)
        elif isinstance(options, train.TrainOptions):
            yield partial(_check_processes, options)
            yield partial(_check_training, run, data, options, "augment" in planned)
        elif isinstance(options, infer.InferOptions):
            yield partial(_check_inference, options, planned)
            if "augment" not in planned:
                yield partial(infer.check_target, options)
        elif isinstance(options, submit.SubmitOptions):
            yield partial(submit.check_size if "infer" in planned else submit.check_masks, options)


def _check_inference(options: infer.InferOptions, planned: Mapping[str, Options]) -> None:
    """Check what 03 needs from earlier stages, and checkpoints; choices on target frames are left to 03."""
    source = planned.get("augment")
    if isinstance(source, augment.AugmentOptions) and options.needs_camera():
        if not source.augment:
            raise InputError("rectified_views and apply_overlay need the target camera (expected: augment true)")
        if options.rectified_views and source.lens == "none" and not source.cameras_file:
            raise InputError("rectified_views needs the target's lens (expected: lens estimated, random or fixed)")
    if "train" not in planned and "target" not in (options.checkpoint, options.scales):
        options.resolved()
    elif options.checkpoint not in (None, "target"):
        from lib.internimage.checkpoints.releases import fetch  # here, because mmseg takes seconds to import

        for source_file in [options.checkpoint] if isinstance(options.checkpoint, str) else options.checkpoint or []:
            fetch(source_file)


def _check_training(run: Run, data: str | Path, options: train.TrainOptions, augments: bool) -> None:
    """Build the config, which holds options and weights against the recipe; a later augmented set changes no check."""
    if not augments:
        run.need("augment")
    from lib.training.checks import check_config  # here, because mmseg takes seconds to import

    hardware = Hardware.detect(options.processes)
    check_config(train.complete_config(options, data if augments else run.augmented, hardware))


def _check_processes(options: train.TrainOptions) -> None:
    hardware = Hardware.detect(options.processes)
    most, what = (hardware.gpus, "one per GPU") if hardware.gpus else (2 * (os.cpu_count() or 1), "two per core")
    if hardware.processes > most:
        raise InputError(f"processes: {hardware.processes} (expected: {most} at most on this machine, {what})")


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(place for place in (folder, *folder.parents) if os.path.lexists(place))


def _check_place(run: Run, planned: Mapping[str, Options]) -> None:
    """Raise InputError unless the run folder is, or can become, a folder that can be written into."""
    place = _existing(run.folder)
    if not place.is_dir():
        raise InputError(f"{place} is no folder (expected: a run folder, --out). Choose another --out.")
    folders = {"augment": run.augmented, "train": run.train, "infer": run.masks, "submit": run.folder}
    for folder in dict.fromkeys([place, run.notebooks, *(folders[stage] for stage in planned)]):
        if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f"{folder} cannot be written into. Allow it, or choose another --out.")


def _check_former(run: Run, stage: str, options: Options) -> None:
    """Raise InputError where the stage's folder holds results of other options."""
    folder = {"augment": run.augmented, "train": run.train, "infer": run.masks}.get(stage)
    before = read_yaml(folder / "parameters.yaml") if folder else {}
    now = Options.identity(options)  # a stage's own may need choices that are made later
    made = {"checkpoint", *options.chosen()}
    names = [n for n in changed(before, now, options.defaults()) if n in before and n in now and n not in made]
    if not names:
        return
    found = ", ".join(f"{name} {_yaml(before[name])} there, {_yaml(now[name])} now" for name in names)
    same = " ".join(f"-p {name} {shlex.quote(_yaml(before[name]))}" for name in names)
    remedy = f"Pass --overwrite to replace it, or {same} again."
    raise InputError(f"{folder} was made with other options ({found}). {remedy}")


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _check_disk(run: Run, found: list[Step]) -> None:
    place = _existing(run.folder)
    free, needed = shutil.disk_usage(place).free, sum(step.disk_bytes for step in found) + _RESERVE_BYTES
    if free < needed:
        raise InputError(
            f"{place}: {free / 2**20:.0f} MiB of disk are free (expected: {needed / 2**20:.0f} MiB or more will be "
            "written). Free some, or choose another --out."
        )


def _check_gpu_memory(step: Step) -> None:
    if not step.gpu_bytes:
        return
    import torch

    free = min(torch.cuda.mem_get_info(i)[0] for i in range(min(step.processes, torch.cuda.device_count())))
    if free < step.gpu_bytes:
        raise InputError(
            f"{step.stage}: {free / 2**30:.1f} GiB of GPU memory are free (expected: about "
            f"{step.gpu_bytes / 2**30:.1f} GiB). End other programs on the GPU, or take a smaller batch_size, crop or "
            "network."
        )
