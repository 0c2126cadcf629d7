"""Small inputs that several test modules build: images, labels, an untrained network, a target camera."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch

from lib.camera.models import Fisheye
from lib.dataset.classes import CLASSES, CLASSES_WITH_BACKGROUND, IGNORE
from lib.run import Run
from lib.synthesis.target_camera import TargetCamera
from lib.target.overlay import Overlay

GOLDEN = Path(__file__).parent / "golden"

SMALL = {"scale": (192, 108), "crop_size": (96, 160), "num_workers": 0}
"""Recipe entries for the ``sample`` fixture's images."""

QUICK = dict(max_iters=4, batch_size=2, options=SMALL)
"""Training options for them."""

ROOT = Path(__file__).parents[1]

WIDTH, HEIGHT = 64, 48
"""Size of ``photo`` and ``classes_label``."""

IMAGE_SIZE = (192, 108)
"""Width and height of the images that ``random_run``'s network is made for."""

KINDS = len(CLASSES_WITH_BACKGROUND)


def photo(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), (WIDTH, HEIGHT))


def classes_label(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = rng.choice([*range(len(CLASSES)), IGNORE], (6, 8)).astype(np.uint8)
    return cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)


def encoded(array: np.ndarray, suffix: str = ".png", *options: int) -> bytes:
    return cv2.imencode(suffix, array, options)[1].tobytes()


def published() -> dict:
    """Shapes and arguments of the published InternImage checkpoints, by variant."""
    return json.loads(gzip.decompress((GOLDEN / "internimage_state_dict_shapes.json.gz").read_bytes()))


def random_run(folder: Path, seed: int, scale=IMAGE_SIZE) -> tuple[Path, Path]:
    """Config and weights of an untrained demo network whose batch norms are not the identity."""
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    import lib.internimage  # noqa: F401  registers the backbone
    from lib import recipes
    from lib.recipes.config_file import write_config

    cfg = recipes.load("demo")
    cfg.scale, cfg.crop_size, cfg.amp = scale, (64, 96), False
    cfg.custom_imports = dict(imports=["lib.internimage"], allow_failed_imports=False)
    init_default_scope("mmseg")
    torch.manual_seed(seed)
    model = MODELS.build(cfg.model)
    for name, values in model.named_buffers():
        if name.endswith("running_var"):
            values.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            values.normal_(0, 0.1)
    with torch.no_grad():
        model.decode_head.conv_seg.weight.mul_(100)  # classes that differ clearly
    folder.mkdir(parents=True, exist_ok=True)
    write_config(cfg, folder / "config.json")
    torch.save(model.state_dict(), folder / "iter_1.pth")
    return folder / "config.json", folder / "iter_1.pth"


def train_copy(before: Path, out: Path, options: dict) -> Path:
    """Copy a run whose first stage is done, and train it; return the copy."""
    from lib.stages.train import TrainOptions, train

    shutil.copytree(before, out)
    train(TrainOptions(out=out, **options))
    return out


def training_run(folder: Path, *iterations: int) -> Run:
    """Build a run folder whose training of the demo's network stopped after ``iterations``."""
    from lib.recipes.config_file import write_config
    from lib.training.config import build_config
    from lib.training.hardware import Hardware

    run = Run(folder)
    cfg = build_config("demo", run.augmented, hardware=Hardware(), work_dir=run.train)
    write_config(cfg, run.config)
    for iteration in iterations:
        torch.save(training_state(iteration), run.train / f"iter_{iteration}.pth")
    return run


def training_state(iteration: int) -> dict:
    """Content of a checkpoint of ``training_run``, without the optimiser's state."""
    hub = {"log_scalars": {}, "runtime_info": {"iter": iteration}, "resumed_keys": {"iter": True}}
    weights = {name: tensor.clone() for name, tensor in _demo_weights().items()}
    meta = {"iter": iteration, "epoch": 0}
    return dict(meta=meta, state_dict=weights, message_hub=hub, optimizer={"state": {}}, param_schedulers=[])


@cache
def _demo_weights() -> dict[str, torch.Tensor]:
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    import lib.internimage  # noqa: F401  registers the backbone
    from lib import recipes

    init_default_scope("mmseg")
    torch.manual_seed(0)
    return MODELS.build(recipes.load("demo").model).state_dict()


def camera(width=320, height=180) -> TargetCamera:
    """Build a fisheye of about 150 degrees that sees its hood in the lowest rows."""
    mask = np.zeros((height, width), bool)
    mask[-height // 6 :] = True
    plain = Overlay(mask, np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.float32))
    lens = Fisheye.from_fov((width, height), 2.6, k=(-0.02, 0.0, 0.0, 0.0))
    return TargetCamera(plain, lens, None, np.zeros((1, 2, 3), np.float32), np.zeros((1, 72, 128, 3), np.uint8))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def in_worker(code: str, folder: Path, monkeypatch) -> None:
    """Let the training processes started from now on, but not torchrun, run ``code`` first."""
    lines = ["import sys", "if 'lib.training.worker' in sys.orig_argv and sys.orig_argv[-1] != '2':"]
    lines += [f"    exec({code!r})"]
    (folder / "sitecustomize.py").write_text("\n".join(lines))
    monkeypatch.setenv("PYTHONPATH", str(folder))


def start(code: str) -> subprocess.Popen:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_when(process: subprocess.Popen, condition, seconds: float = 120) -> None:
    """SIGKILL the process as soon as the condition holds; fail if it ended before."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the process ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
