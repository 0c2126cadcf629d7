"""Bad configs beside a checkpoint: refused in plain words without running code of a file."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lib.prediction.network import Network
from lib.recipes.config_file import read_config, write_config
from lib.stages.infer import InferOptions
from lib.training.checkpoints import set_damaged_aside
from tests.faults.checkpoint_builder import refused_unrun, stopped_run
from tests.faults.outcome import refused


def _set(place: str, value) -> Callable[[dict], None]:
    def change(config: dict) -> None:
        *parents, name = place.split(".")
        for parent in parents:
            config = config[parent]
        config[name] = value

    return change


CONFIGS: dict[str, Callable[[dict], None]] = {
    "a function as type": _set("model.type", "os.system"),
    "a class of Python as type": _set("model.decode_head.type", "subprocess.Popen"),
    "a module as type": _set("model.backbone.type", "antigravity"),
    "a function of mmengine as type": _set("model.backbone.type", "mmengine.dump"),
    "another scope": _set("model.backbone.type", "antigravity.ResNet"),
    "an unknown type": _set("model.decode_head.type", "UPerHeed"),
    "a number as type": _set("model.type", 5),
    "a list as type": _set("model.type", ["EncoderDecoder"]),
    "no type": lambda config: config["model"].pop("type"),
    "a hidden scope": _set("model._scope_", "antigravity"),
    "a base file": _set("_base_", "other.py"),
    "a constructor": _set("optim_wrapper.constructor", "os.system"),
    "a runner": _set("runner_type", "os.system"),
    "foreign imports": _set("custom_imports", {"imports": ["antigravity"], "allow_failed_imports": False}),
    "imports that look like ours": _set("custom_imports", {"imports": ["library.x"]}),
    "imports of nothing": _set("custom_imports", {"imports": ["lib.nothing"]}),
    "imports of numbers": _set("custom_imports", {"imports": [5]}),
    "imports of a number": _set("custom_imports", 5),
    "a reserved name": _set("pretty_text", "x"),
    "no network": lambda config: config.pop("model"),
    "a list as network": _set("model", []),
    "an empty network": _set("model", {}),
    "no scale": lambda config: config.pop("scale"),
    "text as scale": _set("scale", "large"),
    "a negative scale": _set("scale", [-5, 5]),
    "three sides": _set("crop_size", [1, 2, 3]),
    "fractions of pixels": _set("crop_size", [1.5, 2]),
    "negative channels": _set("model.backbone.channels", -16),
    "text as channels": _set("model.backbone.channels", "16"),
    "an unknown argument": _set("model.backbone.colour", "red"),
    "other stages": _set("model.backbone.depths", [1, 1]),
    "other channels of the head": _set("model.decode_head.in_channels", [1, 2, 3, 4]),
    "other classes": _set("model.decode_head.num_classes", 19),
    "a stride of zero": _set("model.test_cfg", {"mode": "slide", "crop_size": [64, 64], "stride": [0, 0]}),
}

TEXTS: dict[str, bytes] = {
    "empty": b"",
    "half": b'{"model": {"type": "Enc',
    "Python": b"model = dict(type='EncoderDecoder')",
    "a list": b"[]",
    "null": b"null",
    "no text": bytes(range(128, 256)),
    "a long number": b'{"model": ' + b"9" * 10_000 + b"}",
    "deep lists": b'{"model": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
    "deep mappings": b'{"model": ' + b'{"a": ' * 500 + b"1" + b"}" * 501,
}


def _config(folder: Path, change: Callable[[dict], None]) -> None:
    run = stopped_run(folder)
    config = json.loads(run.config.read_text())
    change(config)
    run.config.write_text(json.dumps(config))
    refused(Network, run.config, run.last_checkpoint(), naming=str(folder))


def _config_text(folder: Path, text: bytes) -> None:
    run = stopped_run(folder)
    run.config.write_bytes(text)
    refused(read_config, run.config, naming=run.config.name)
    refused(set_damaged_aside, run, naming=run.config.name)


def _config_directory(folder: Path) -> None:
    (folder / "config.json").mkdir()
    refused(read_config, folder / "config.json", naming="config.json")


def _function_in_config(folder: Path) -> None:
    from mmengine import Config

    refused(write_config, Config({"model": {"type": print}}), folder / "config.json", naming="model.type")
    assert not (folder / "config.json").exists()


def _attack_by_old_config(folder: Path) -> None:
    """Python beside a checkpoint, as versions up to 0.2.0 wrote it."""
    run = stopped_run(folder)
    own = folder / "given"
    own.mkdir()
    shutil.copy(run.last_checkpoint(), own)
    (own / "config.py").write_text(f"import os\nos.system('touch {folder / 'victim'}')\nmodel = dict()")
    options = InferOptions(out=str(folder), checkpoint=str(own / "iter_2.pth"))
    refused_unrun(options.resolved, folder, "config.py")
    refused_unrun(lambda: Network(own / "config.json", own / "iter_2.pth"), folder, "is not run")
    refused_unrun(lambda: Network(own / "config.py", own / "iter_2.pth"), folder, "config.py")


CASES: dict[str, Callable[[Path], None]] = {
    "a config of an earlier version": _attack_by_old_config,
    **{f"config: {name}": partial(_config, change=x) for name, x in CONFIGS.items()},
    **{f"config file: {name}": partial(_config_text, text=x) for name, x in TEXTS.items()},
    "config file: a folder": _config_directory,
    "config: a function is not written": _function_in_config,
}
