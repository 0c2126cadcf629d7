"""Sliding windows and flips: this project's inference and mmsegmentation's ``slide`` mode in one run.

Weights, images, windows and threads are the same. mmsegmentation infers the image and its mirror image in ``slide``
mode, then takes softmax, mean and argmax, as ``EncoderDecoder.inference`` and ``SegTTAModel`` do. Each round times
every way on one image in turn, so that a machine that slows down slows all. Ratios of wall-clock time and of processor
time are per round; the start of ``torch.compile`` is reported apart.

There are two networks: the demo recipe trained by ``make demo``, and UperNet on InternImage-T with 512 channels in its
head and random weights, whose masks are noisier than a trained network's. Prints a table and writes
``benchmarks/results/inference.json``.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from lib import recipes
from lib.dataset import image_files, layout
from lib.internimage.variants import VARIANTS
from lib.prediction.network import Network
from lib.prediction.options import TestTimeOptions
from lib.prediction.predictor import Predictor
from lib.recipes.config_file import write_config
from lib.run import Run

RESULTS = Path(__file__).parent / "results" / "inference.json"
WAYS = {
    "one window at a time": dict(crops_per_batch=1),
    "four at a time": dict(crops_per_batch=4),
    "four at a time, bfloat16": dict(crops_per_batch=4, amp=True),
    "four at a time, compiled": dict(crops_per_batch=4, compile=True),
}
LARGE = dict(size=(320, 180), crop=(112, 192))
"""Image and windows of the large network; small, so that a CPU takes minutes."""


def mmseg_slide(config: Path, checkpoint: Path, device: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from image to class ids by mmsegmentation's windows, then those of the mirror image."""
    network = Network(config, checkpoint, TestTimeOptions(sliding=True, device=device))
    model = network.model
    model.test_cfg = type(model.test_cfg)(dict(mode="slide", crop_size=network.window, stride=network.stride))

    @torch.no_grad()
    def label(image):
        pixels, total = network.inputs([image]), 0
        size = tuple(pixels.shape[2:])
        for mirror in (False, True):
            meta = dict(ori_shape=size, img_shape=size, pad_shape=size, padding_size=[0, 0, 0, 0])
            logits = model.inference(pixels.flip(3) if mirror else pixels, [meta])
            logits = F.interpolate(logits, size=image.shape[:2], mode="bilinear", align_corners=False)
            probabilities = logits.softmax(1)
            total = total + (probabilities.flip(3) if mirror else probabilities)
        return total.argmax(1)[0].cpu().numpy().astype(np.uint8)

    return label


def untrained(folder: Path, size: tuple[int, int], crop: tuple[int, int]) -> tuple[Path, Path]:
    """Write config and random weights of UperNet on InternImage-T, for (width, height) and (height, width)."""
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    cfg = recipes.load("upernet_internimage_b_512x1024_160k")
    arguments = VARIANTS["t"]
    widths = [arguments["channels"] * 2**i for i in range(4)]
    cfg.model.backbone = dict(type="InternImage", **arguments)
    cfg.model.decode_head.in_channels, cfg.model.auxiliary_head.in_channels = widths, widths[2]
    cfg.scale, cfg.crop_size, cfg.amp, cfg.model.test_cfg = size, crop, False, dict(mode="whole")
    cfg.custom_imports = dict(imports=["lib.internimage"], allow_failed_imports=False)
    write_config(cfg, folder / "config.json")
    import lib.internimage  # noqa: F401  registers its classes

    init_default_scope("mmseg")
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    for name, values in model.named_buffers():  # batch norms that change values
        if name.endswith("running_var"):
            values.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            values.normal_(0, 0.1)
    torch.save(dict(state_dict=model.state_dict()), folder / "weights.pth")
    return folder / "config.json", folder / "weights.pth"


def measure(
    config: Path, checkpoint: Path, images: list[np.ndarray], rounds: int, ways: list[str], device: str
) -> dict:
    """Return the times of every way, and the share of its masks' pixels that equal mmsegmentation's."""
    run, found, first = {"mmseg slide": mmseg_slide(config, checkpoint, device)}, {}, {}
    for name in ways:
        options = TestTimeOptions(sliding=True, flip=True, device=device, **WAYS[name])
        run[name] = Predictor(config, checkpoint, options)
    for name, label in run.items():
        first[name] = _timed(label, images[0])[0]
        found[name] = dict(wall=[], processor=[], equal=[])
    for i in tqdm(range(rounds), desc="round", mininterval=1):
        masks = {}
        for name, label in run.items():
            wall, processor, masks[name] = _timed(label, images[i % len(images)])
            found[name]["wall"].append(wall)
            found[name]["processor"].append(processor)
            found[name]["equal"].append(float((masks[name] == masks["mmseg slide"]).mean()))
    baseline = found["mmseg slide"]
    for name, times in found.items():
        for clock in ("wall", "processor"):
            ratios = [a / b for a, b in zip(baseline[clock], times[clock], strict=True)]
            times[f"{clock} ratio"] = dict(median=statistics.median(ratios), least=min(ratios), most=max(ratios))
        times["images/s"] = 1 / statistics.median(times["wall"])
        times["least equal"] = min(times["equal"])
        times["first image, s"] = first[name]
    return found


def _timed(label: Callable, image: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Return seconds, processor seconds, and the mask."""
    starts = time.perf_counter(), time.process_time()
    mask = label(image)  # on the CPU, so that a GPU has finished
    return time.perf_counter() - starts[0], time.process_time() - starts[1], mask


def _print(title: str, measured: dict) -> None:
    print(f"\n{title}\n{'':28}{'images/s':>9}  {'times faster':>20}  {'in processor time':>20}  equal pixels, least")
    for name, times in measured.items():
        ratios = times["wall ratio"], times["processor ratio"]
        spans = [f"{r['median']:.2f} ({r['least']:.2f}–{r['most']:.2f})" for r in ratios]
        print(f"{name:28}{times['images/s']:9.3f}  {spans[0]:>20}  {spans[1]:>20}  {times['least equal']:.5f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default="outputs/demo", help="run folder of a trained demo recipe")
    parser.add_argument("--data", type=Path, default="data/sample", help="the data set it was trained on")
    parser.add_argument("--rounds", type=int, default=12, help="rounds of the demo network; the large one gets a third")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    images = [image_files.read_image(item.image) for item in layout.read_split(args.data, "test")]
    results = dict(device=_name(args.device), threads=args.threads, torch=torch.__version__)
    trained = Run(args.run).config, Run(args.run).best_checkpoint()
    results["demo"] = measure(*trained, images, args.rounds, list(WAYS), args.device)
    _print(f"demo, {images[0].shape[1]}x{images[0].shape[0]}", results["demo"])
    small = [cv2.resize(image, LARGE["size"], interpolation=cv2.INTER_AREA) for image in images]
    with tempfile.TemporaryDirectory() as folder:
        large = untrained(Path(folder), **LARGE)
        results["upernet_t"] = measure(*large, small, -(-args.rounds // 3), list(WAYS)[:3], args.device)
    _print("UperNet on InternImage-T, {}x{}".format(*LARGE["size"]), results["upernet_t"])
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def _name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
