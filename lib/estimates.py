"""Estimates of what the stages of a run will do: amount of work, device, time, and size on disk and on a GPU.

Sizes follow from the numbers of images, pixels and weights. Times are those of the same stage in an earlier run of the
same device and options, this run folder's or one beside it, in proportion to the work; without one they are unknown.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lib import recipes
from lib.dataset import layout
from lib.dataset.image_files import image_size
from lib.options import Options
from lib.recipes import heads
from lib.run import Run, environment
from lib.stages import augment, infer, train
from lib.training.hardware import Hardware

_IMAGE_BYTES = 3.1
"""Bytes per pixel of an augmented image, which is not compressed, and its label."""
_MASK_BYTES, _ROWS_BYTES = 0.6, 0.1
"""Bytes per pixel of a mask with its picture, and of an image's rows of the submission; rendered streets take less."""
_WEIGHT_BYTES, _SECOND_NETWORK = 12, 4
"""Bytes per weight of a checkpoint: float32, and AdamW's two moments; a teacher or an average adds its own weights."""
_SPARE_CHECKPOINTS = 3  # the best one, its successor, and the one that is being written

_KNOWN_HEADS = ("UPerHead", "SegformerHead", heads.MASK2FORMER)

_SPEED = {
    "augment": ("augment", "lens", "appearance"),
    "train": ("recipe", "batch_size", "self_training", "amp", "options"),
    "infer": ("sliding", "flip", "scales", "rectified_views", "amp"),
    "submit": (),
}
"""Options of each stage on which its speed depends."""


@dataclass(frozen=True)
class Step:
    """A stage that will run; ``None`` in an estimate: unknown."""

    stage: str
    work: int
    unit: str
    device: str
    processes: int
    seconds: float | None
    origin: str  # the run that the time is taken from
    disk_bytes: float
    gpu_bytes: float | None = None  # per GPU

    def __str__(self) -> str:
        time = (
            f"{_duration(self.seconds)} (by the time of {self.origin})" if self.seconds is not None else "time unknown"
        )
        processes = f", {self.processes} processes" if self.processes > 1 else ""
        memory = f", {self.gpu_bytes / 2**30:.1f} GiB of GPU memory" if self.gpu_bytes else ""
        size = f"{self.disk_bytes / 2**20:.1f} MiB" if self.disk_bytes < 2**30 else f"{self.disk_bytes / 2**30:.1f} GiB"
        where = f"on {self.device}{processes}"
        return f"{self.stage}: {self.work} {self.unit} {where}, {time}, about {size} of disk{memory}"


def steps(run: Run, data: str | Path, planned: Mapping[str, Options]) -> list[Step]:
    """Return what each planned stage will do; their options have passed their checks."""
    device = environment()["device"]
    found = []
    for stage, options in planned.items():
        work, unit, processes, disk, gpu = _amount(run, data, options, "augment" in planned)
        seconds, origin = _seconds(run, stage, options, work, device)
        place = infer.InferOptions.torch_device(options) if isinstance(options, infer.InferOptions) else device[0]
        found.append(Step(stage, work, unit, place, processes, seconds, origin, disk, gpu))
    return found


def _amount(run: Run, data: str | Path, options: Options, augments: bool) -> tuple[int, str, int, float, float | None]:
    """Return work, its unit, processes, bytes on disk and bytes per GPU."""
    if isinstance(options, train.TrainOptions):
        return _training(data if augments else run.augmented, options)
    if isinstance(options, augment.AugmentOptions):
        copies = {"train_source": options.copies, "val_source": 1}
        count = sum(number * len(layout.read_split(data, split)) for split, number in copies.items())
        pixels = math.prod(image_size(layout.read_split(data, "train_target")[0].image))
        return count, "images", 1, count * pixels * _IMAGE_BYTES, None
    items = layout.read_split(data, "test")
    if isinstance(options, infer.InferOptions):
        pixels, size = math.prod(image_size(items[0].image)), _MASK_BYTES
    else:
        pixels, size = math.prod(options.identity()["submission_size"]), _ROWS_BYTES
    return len(items), "images", 1, len(items) * pixels * size, None


def _training(data: str | Path, options: train.TrainOptions) -> tuple[int, str, int, float, float | None]:
    hardware = Hardware.detect(options.processes)
    cfg = train.complete_config(options, data, hardware)
    weights = _weights(cfg)
    second = _SECOND_NETWORK if options.self_training or cfg.ema else 0
    kept = cfg.get("keep_checkpoints", 2) + _SPARE_CHECKPOINTS
    gpu = _gpu_bytes(cfg, hardware, options.self_training) if hardware.gpus else None
    return cfg.max_iters, "iterations", hardware.processes, kept * weights * (_WEIGHT_BYTES + second), gpu


def _weights(cfg: Any) -> int:
    """Return the number of a network's weights; it is built without memory for them."""
    from lib.training.checks import build_network  # here, because mmseg takes seconds to import

    network = build_network(cfg)
    network = getattr(network, "student", network)  # of self-training
    return sum(weight.numel() for weight in network.parameters())


def _gpu_bytes(cfg: Any, hardware: Hardware, self_training: bool) -> float | None:
    """Return the estimate of :mod:`lib.recipes.costs`, which knows InternImage and the heads of :mod:`lib.recipes`."""
    from mmengine import Config

    from lib.recipes import costs

    model = recipes.network(cfg)
    if model.backbone.type != "InternImage" or model.decode_head.type not in _KNOWN_HEADS:
        return None
    crop, batch = [-(-side // 32) * 32 for side in cfg.crop_size], cfg.batch_size
    known = costs.measure(Config(dict(model=model.to_dict())))
    devices = hardware.processes if cfg.shard else 1
    checkpointing = bool(model.backbone.get("with_cp"))
    estimate = known.training_bytes((crop[0], crop[1]), batch, checkpointing=checkpointing, devices=devices)
    return estimate + _SECOND_NETWORK * known.parameters * (self_training or bool(cfg.ema))


def _seconds(run: Run, stage: str, options: Options, work: int, device: list[str]) -> tuple[float | None, str]:
    """Return the time that the largest comparable run suggests, the newest of several, and that run's folder."""
    now = Options.identity(options)  # a stage's own may need choices that are made later
    found = []
    for folder, entry in _entries(run, stage):
        before, done = entry.get("parameters", {}), _work(stage, folder, entry, options)
        alike = all(before.get(name) == now.get(name) for name in _SPEED[stage])
        if alike and done and entry.get("device") == device and entry.get("seconds") is not None:
            found.append((done, entry.get("finished", ""), entry["seconds"] * work / done, str(folder)))
    if not found:
        return None, ""
    *_, seconds, origin = max(found)
    return seconds, origin


def _entries(run: Run, stage: str) -> Iterator[tuple[Path, dict]]:
    """Yield folder and record of this run's stage and of the runs' beside it, as far as they finished it."""
    beside = run.folder.parent
    for folder in sorted(beside.iterdir()) if beside.is_dir() else []:
        with suppress(OSError, ValueError, AttributeError, yaml.YAMLError):  # a folder of something else
            if isinstance(entry := Run(folder).entry(stage), dict):
                yield folder, entry


def _work(stage: str, folder: Path, entry: Mapping, options: Options) -> int:
    """Return the amount of work of an earlier run; 0 where it is not known."""
    results = ((Run(folder).entry("infer") or {}) if stage == "submit" else entry).get("results", {})
    if stage == "augment":
        return results.get("train_source", 0) + results.get("val_source", 0)
    if isinstance(options, train.TrainOptions):
        given = entry.get("parameters", {}).get("max_iters")
        return given or int((options.options or {}).get("max_iters", 0)) or recipes.load(options.recipe).max_iters
    return results.get("images", 0)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
