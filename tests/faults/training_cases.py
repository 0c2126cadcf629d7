"""Bad inputs of stage 02: entries of the recipe, recipe files, start weights, and batch sizes."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lib import recipes
from lib.prediction.options import TestTimeOptions
from lib.stages.train import TrainOptions
from lib.training.checks import build_network, check_config
from lib.training.config import build_config
from lib.training.hardware import Hardware
from tests.faults.outcome import refused

NAMED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown entry": ({"acumulate": 4}, "did you mean accumulate?"),
    "unknown part": ({"modell.backbone.with_cp": True}, "did you mean model?"),
    "unknown backbone argument": ({"model.backbone.with_cpp": True}, "did you mean with_cp?"),
    "unknown optimiser argument": ({"optim_wrapper.optimizer.lrr": 1.0}, "did you mean lr?"),
    "unknown wrapper argument": ({"optim_wrapper.acumulative_counts": 2}, "did you mean accumulative_counts?"),
    "unknown loss argument": ({"model.decode_head.loss_decode.class_weigth": [1]}, "did you mean class_weight?"),
    "unknown test setting": ({"model.test_cfg.modus": "slide"}, "did you mean mode?"),
    "unknown clipping": ({"optim_wrapper.clip_grad.max_norn": 1.0}, "did you mean max_norm?"),
    "unknown layer decay": ({"optim_wrapper.paramwise_cfg.decay": 0.9}, "optim_wrapper: paramwise_cfg: with decay"),
    "unknown nested entry": ({"model": {"backbone": {"chanels": 16}}}, "did you mean channels?"),
    "entry of a number": ({"max_iters.half": 3}, "it has no entries"),
    "entry of a list": ({"model.decode_head.in_channels.0": 3}, "in_channels"),
    "empty name": ({"": 3}, "''"),
    "name ends with a dot": ({"model.backbone.": 3}, "'model.backbone.'"),
    "number as a name": ({3: 3}, "{3: 3}"),
    "names that contradict": ({"clip_grad": 1.0, "clip_grad.max_norm": 2.0}, "clip_grad"),
    "learning rate as text": ({"optim_wrapper.optimizer.lr": "1e-4"}, "YAML reads 1e-4 as text"),
    "learning rate nan": ({"optim_wrapper.optimizer.lr": float("nan")}, "finite"),
    "learning rate inf": ({"optim_wrapper.optimizer.lr": float("inf")}, "finite"),
    "learning rate below 0": ({"optim_wrapper.optimizer.lr": -1.0}, "optim_wrapper: Invalid learning rate: -1.0"),
    "learning rate true": ({"optim_wrapper.optimizer.lr": True}, "a number"),
    "betas above 1": ({"optim_wrapper.optimizer.betas": [1.5, 0.9]}, "beta"),
    "one beta": ({"optim_wrapper.optimizer.betas": [0.9]}, "optim_wrapper"),
    "weight decay below 0": ({"optim_wrapper.optimizer.weight_decay": -1.0}, "weight_decay"),
    "unknown optimiser": ({"optim_wrapper.optimizer.type": "AdamWW"}, "AdamWW"),
    "another optimiser's arguments": ({"optim_wrapper.optimizer.type": "SGD"}, "betas"),
    "optimiser replaced by text": ({"optim_wrapper.optimizer": "SGD"}, "a mapping"),
    "optimiser without a type": ({"optim_wrapper.optimizer": {"lr": 1.0, "_delete_": True}}, "optimizer"),
    "unknown constructor": ({"optim_wrapper.constructor": "Nope"}, "Nope"),
    "layer decay below 0": ({"optim_wrapper.paramwise_cfg.layer_decay_rate": -1.0}, "rate"),
    "layers that are not the depths' sum": ({"optim_wrapper.paramwise_cfg.num_layers": 3}, "num_layers 3"),
    "clip by nothing": ({"clip_grad": 0}, "clip_grad: 0"),
    "clip by text": ({"clip_grad": "much"}, "clip_grad: 'much'"),
    "unknown backbone": ({"model.backbone.type": "Resnet"}, "Resnet"),
    "unknown head": ({"model.decode_head.type": "UperHead"}, "UperHead"),
    "unknown loss": ({"model.decode_head.loss_decode.type": "Dice"}, "Dice"),
    "unknown norm": ({"model.decode_head.norm_cfg.type": "ZN"}, "ZN"),
    "channels that do not fit the head": ({"model.backbone.channels": 32}, "model"),
    "channels that no group divides": ({"model.backbone.groups": [3, 2, 4, 8]}, "model"),
    "three groups": ({"model.backbone.groups": [1, 2, 4]}, "groups"),
    "no stages": ({"model.backbone.depths": []}, "model"),
    "depths as text": ({"model.backbone.depths": "tiny"}, "a list"),
    "depth below 0": ({"model.backbone.depths": [1, 1, -2, 1]}, "depths"),
    "maps that the backbone does not give": ({"model.backbone.out_indices": [0, 1]}, "model"),
    "index of no map": ({"model.auxiliary_head.in_index": 9}, "model.auxiliary_head"),
    "five classes": ({"model.decode_head.num_classes": 5}, "expected: 13"),
    "weights of two classes": ({"model.decode_head.loss_decode.class_weight": [1.0, 2.0]}, "model.decode_head"),
    "unknown way of testing": ({"model.test_cfg.mode": "slid"}, "model.test_cfg.mode: 'slid'"),
    "windows without a size": ({"model.test_cfg.mode": "slide"}, "model.test_cfg.crop_size"),
    "windows with gaps": (
        {"model.test_cfg": {"mode": "slide", "crop_size": [96, 96], "stride": [64, 128]}},
        "model.test_cfg.stride",
    ),
    "backbone weights that are missing": (
        {"model.backbone.init_cfg": {"type": "Pretrained", "checkpoint": "gone.pth"}},
        "gone.pth",
    ),
    "pools as text": ({"model.decode_head.pool_scales": "all"}, "a list"),
    "drop path above 1": ({"model.backbone.drop_path_rate": 1.5}, "drop_path_rate"),
    "dropout above 1": ({"model.decode_head.dropout_ratio": 2.0}, "dropout"),
    "switch as text": ({"model.backbone.with_cp": "off"}, "true or false"),
    "crop of no height": ({"crop_size": [0, 96]}, "crop_size"),
    "crop of one side": ({"crop_size": 96}, "crop_size"),
    "crop of three sides": ({"crop_size": [96, 96, 3]}, "crop_size"),
    "scale as text": ({"scale": "480x270"}, "scale"),
    "ratios in the wrong order": ({"ratio_range": [2.0, 0.5]}, "ratio_range"),
    "ratio of 0": ({"ratio_range": [0, 1]}, "ratio_range"),
    "no crops": ({"batch_size": 0}, "batch_size: 0"),
    "crops true": ({"batch_size": True}, "batch_size"),
    "half a crop": ({"batch_size": 1.5}, "batch_size: 1.5"),
    "workers below 0": ({"num_workers": -1}, "num_workers: -1"),
    "no iterations": ({"max_iters": 0}, "max_iters: 0"),
    "iterations as text": ({"max_iters": "100"}, "max_iters"),
    "warm-up as long as the training": ({"max_iters": 20, "warmup_iters": 20}, "19 at most"),
    "warm-up below 0": ({"warmup_iters": -1}, "warmup_iters: -1"),
    "no validation interval": ({"val_interval": 0}, "val_interval: 0"),
    "validation after the end": ({"val_interval": 500}, "200 at most"),
    "power 0": ({"poly_power": 0}, "poly_power: 0"),
    "accumulate nothing": ({"accumulate": 0}, "accumulate: 0"),
    "accumulate the whole training": ({"accumulate": 200}, "100 at most"),
    "average of 1": ({"ema": 1.0}, "ema: 1.0"),
    "average of sharded weights": ({"ema": 0.1, "shard": True}, "shard"),
    "shard in one process": ({"shard": True}, "processes=1"),
    "no checkpoints kept": ({"keep_checkpoints": 0}, "keep_checkpoints: 0"),
    "unknown kind of data": ({"data_kind": "kitti"}, "data_kind"),
    "classes of another kind of data": ({"data_kind": "cityscapes"}, "cityscapes"),
    "unknown setting of self-training": ({"self_training.alfa": 0.9}, "self_training.alfa"),
    "self-training as a number": ({"self_training": 5}, "self_training: 5"),
    "no network": ({"model": None}, "model: None"),
    "no backbone": ({"model.backbone": None}, "model.backbone: None"),
    "no preprocessor": ({"model.data_preprocessor": None}, "model.data_preprocessor: None"),
    "no optimiser": ({"optim_wrapper": None}, "optim_wrapper: None"),
    "no head": ({"model.decode_head": None}, "model"),
    "a function": ({"model.backbone.with_cp": print}, "with_cp"),
}
"""Entries of the demo recipe, and what the message names."""

FILES: dict[str, tuple[str, str]] = {
    "recipe that is empty": ("", "own.py"),
    "recipe with a syntax fault": ("max_iters = = 3", "own.py"),
    "recipe that fails": ("raise RuntimeError('no')", "own.py"),
    "recipe of a missing base": ("_base_ = ['gone.py']", "own.py"),
    "recipe without a network": ("{text}\ndel model", "model"),
    "recipe without an optimiser": ("{text}\ndel optim_wrapper", "optim_wrapper"),
    "recipe without a length": ("{text}\ndel max_iters", "max_iters"),
    "recipe with an unknown hook": ("{text}\ncustom_hooks = [dict(type='Nope')]", "Nope"),
    "recipe with a length as text": ("{text}\nmax_iters = '100'", "max_iters"),
}
"""Recipe files, ``{text}`` being the demo's, and what the message names."""


def _check(folder: Path, recipe: str | Path = "demo", hardware: Hardware | None = None, **given) -> None:
    check_config(build_config(recipe, folder, hardware=hardware or Hardware(), amp=False, **given))


def _entry(options: dict, naming: str, folder: Path) -> None:
    refused(lambda: TrainOptions(options=options) and _check(folder, options=options), naming=naming)


def _recipe_file(text: str, naming: str, folder: Path) -> None:
    own = folder / "own.py"
    own.write_text(text.format(text=recipes.load("demo").pretty_text) if "{text}" in text else text)
    refused(partial(_check, folder, own), naming=naming)


def _given(naming: str, given: dict[str, Any], folder: Path) -> None:
    refused(partial(_check, folder, **given), naming=naming)


def _accepted(given: dict[str, Any], folder: Path) -> None:
    _check(folder, **given)


def _weights(naming: str, write: Callable[[Path], None], folder: Path) -> None:
    write(folder / "start.pth")
    refused(partial(_check, folder, load_from=str(folder / "start.pth")), naming=naming)


def _sound(path: Path) -> str:
    from mmseg.registry import MODELS

    cfg = build_config("demo", path.parent, hardware=Hardware())
    build_network(cfg)  # registers the classes
    torch.save({"state_dict": MODELS.build(cfg.model).state_dict()}, path)
    return str(path)


def _not_finite(path: Path) -> None:
    content = torch.load(_sound(path))
    content["state_dict"]["decode_head.conv_seg.bias"][0] = float("nan")
    torch.save(content, path)


def _options_of_weights(option: str, value: Any, folder: Path) -> None:
    given = {"checkpoint": _sound(folder / "start.pth"), option: value}
    refused(partial(_check, folder, load_from=given), naming=f"{option}: {value!r}")


def _settings_without_self_training(folder: Path) -> None:
    for options in ({"self_training.alpha": 0.9}, {"self_training": {"alpha": 0.9}}):
        refused(partial(TrainOptions, options=options), naming="self_training is off")


def _device(name: str, folder: Path) -> None:
    refused(partial(TestTimeOptions, device=name), naming=f"device: {name!r}")


CASES: dict[str, Callable[[Path], None]] = {
    **{f"options: {name}": partial(_entry, *case) for name, case in NAMED.items()},
    **{name: partial(_recipe_file, *case) for name, case in FILES.items()},
    "recipe of an unknown name": partial(_given, "nosuch", {"recipe": "nosuch"}),
    "recipe that is a folder": partial(_given, "neither", {"recipe": "/"}),
    "length given twice": partial(_given, "one of them", {"max_iters": 10, "options": {"max_iters": 20}}),
    "batch size given twice": partial(_given, "one of them", {"batch_size": 4, "options": {"batch_size": 2}}),
    "one crop for a batch norm": partial(_given, "batch_size: 1", {"batch_size": 1}),
    "one crop for a batch norm of self-training's network": partial(
        _given, "batch_size: 1", {"recipe": "upernet_internimage_t", "batch_size": 1}
    ),
    "one crop without such a batch norm": partial(_accepted, {"recipe": "demo_segformer", "batch_size": 1}),
    "one crop, pools of several pixels": partial(
        _accepted, {"batch_size": 1, "options": {"model.decode_head.pool_scales": [2, 3, 6]}}
    ),
    "settings of self-training without it": _settings_without_self_training,
    "start weights that are missing": partial(_given, "gone.pth", {"load_from": "gone.pth"}),
    "start weights without a name": partial(_given, "load_from", {"load_from": {"classes": "ade20k"}}),
    "start weights with an unknown option": partial(
        _given, "'class'", {"load_from": {"checkpoint": "a.pth", "class": "ade20k"}}
    ),
    **{
        f"start weights with {option} {value!r}": partial(_options_of_weights, option, value)
        for option, value in (("classes", "nowhere"), ("classes", 5), ("ema", "maybe"), ("partial", 3))
    },
    "start weights that are a number": partial(_given, "5", {"load_from": {"checkpoint": 5}}),
    "start weights that are a folder": partial(_given, "/", {"load_from": "/"}),
    "start weights that are text": partial(_weights, "start.pth", lambda path: path.write_text("no weights")),
    "start weights that are empty": partial(_weights, "start.pth", lambda path: path.write_bytes(b"")),
    "start weights that are a list": partial(_weights, "start.pth", lambda path: torch.save([1, 2], path)),
    "start weights that are not finite": partial(_weights, "NaN", _not_finite),
    "device that does not exist": partial(_device, "nope"),
    "device without a number": partial(_device, "cuda:first"),
    "device without values": partial(_device, "meta"),
}
"""Name of the bad input → function that feeds it to the product in an empty folder."""
