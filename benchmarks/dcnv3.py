"""DCNv3, all implementations side by side in one run, on the shapes of InternImage-T, -B and -H.

Compared with the formulation that public code falls back to (``grid_sample``): the compiled kernels, the PyTorch
implementation and, where they are installed and the device is a GPU, the public extensions ``DCNv3`` and
``DCNv4``. Each round times all of them in turn, so a machine that slows down slows all; ratios are taken per
round. Bytes count every tensor that goes in or comes out once; ``copy`` is a measured copy on the same device.

Prints a table and writes ``benchmarks/results/dcnv3-<device>.json`` and ``.png``.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
import torch.nn.functional as F
from tqdm import tqdm

import ops_dcnv3
from lib.internimage import InternImage
from lib.internimage.variants import VARIANTS
from ops_dcnv3 import module

RESULTS = Path(__file__).parent / "results"
NETWORKS = {"T": "t", "B": "b", "H": "h"}
SIZES = {"512x1024": (512, 1024), "224x224": (224, 224)}
BASELINE = "grid_sample"
WARM_UP = 2
SECONDS = 10
"""A row ends after this time, when it has at least three rounds."""


def grid_sample_form(x, offset, mask, groups):
    """The same operator for 3x3, stride 1: pad, normalise the locations, sample each group, sum over the points."""
    n, height, width, channels = x.shape
    padded = F.pad(x, (0, 0, 1, 1, 1, 1))
    images = padded.view(n, height + 2, width + 2, groups, -1).permute(0, 3, 4, 1, 2).flatten(0, 1)
    like = dict(device=x.device, dtype=x.dtype)
    rows, columns = torch.meshgrid(
        torch.arange(1, height + 1, **like), torch.arange(1, width + 1, **like), indexing="ij"
    )
    point_x, point_y = torch.meshgrid(torch.arange(-1, 2, **like), torch.arange(-1, 2, **like), indexing="ij")
    points = torch.stack([point_x.flatten(), point_y.flatten()], -1)
    places = torch.stack([columns, rows], -1)[:, :, None, None] + points + offset.view(n, height, width, groups, 9, 2)
    grid = (places + 0.5) / torch.tensor([width + 2, height + 2], **like) * 2 - 1
    grid = grid.permute(0, 3, 1, 2, 4, 5).reshape(n * groups, height * width, 9, 2)
    sampled = F.grid_sample(images, grid, align_corners=False)
    weights = mask.view(n, height * width, groups, 9).transpose(1, 2).reshape(n * groups, 1, height * width, 9)
    return (sampled * weights).sum(-1).view(n, channels, height, width).permute(0, 2, 3, 1)


def implementations(tensors, groups) -> dict:
    """Name to (forward, forward and backward), both without arguments."""
    grad = torch.randn_like(tensors[0])

    def trained(forward):
        return lambda: torch.autograd.grad(forward(), tensors, grad)

    def kernels():
        return ops_dcnv3.dcnv3(*tensors, groups=groups)

    def plain():
        with ops_dcnv3.reference_only():
            return kernels()

    def plain_trained():
        with ops_dcnv3.reference_only():
            return torch.autograd.grad(kernels(), tensors, grad)

    def baseline():
        return grid_sample_form(*tensors, groups)

    found = {
        "kernels": (kernels, trained(kernels)),
        "plain PyTorch": (plain, plain_trained),
        BASELINE: (baseline, trained(baseline)),
    }
    return found | (_public(tensors, groups, grad) if tensors[0].is_cuda else {})


def _public(tensors, groups, grad) -> dict:
    """The public extensions that can be imported, called directly."""
    width = tensors[0].shape[3] // groups
    settings = (3, 3, 1, 1, 1, 1, 1, 1, groups, width, 1.0)
    found = {}
    try:
        import DCNv3
    except ImportError:
        pass
    else:
        plain = [t.detach() for t in tensors]

        def forward():
            return DCNv3.dcnv3_forward(*plain, *settings, 256)

        found["public DCNv3"] = (
            forward,
            lambda: (forward(), DCNv3.dcnv3_backward(*plain, *settings, grad, 256)),
        )
    try:
        from DCNv4.functions import DCNv4Function
    except ImportError:
        return found
    n, height, width_, _ = tensors[0].shape
    packed = torch.cat(
        [tensors[1].view(n, height, width_, groups, 18), tensors[2].view(n, height, width_, groups, 9)], -1
    )
    packed = F.pad(packed.flatten(3), (0, -27 * groups % 8)).detach().requires_grad_()

    def four():
        return DCNv4Function.apply(tensors[0], packed, *settings, 256, False)

    found["public DCNv4"] = (four, lambda: torch.autograd.grad(four(), [tensors[0], packed], grad))
    return found


def seconds(run, device: torch.device) -> float:
    """Of one call: on a GPU of ten in a row, by its own clock."""
    if device.type == "cpu":
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(10):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e4


def rounds_of(runs: dict, device: torch.device, rounds: int) -> dict[str, list[float]]:
    """Seconds of each run, taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    begin = time.perf_counter()
    for i in range(rounds + WARM_UP):
        if time.perf_counter() - begin > SECONDS and i >= WARM_UP + 3:
            break
        for name, run in runs.items():
            taken = seconds(run, device)
            if i >= WARM_UP:
                times[name].append(taken)
    return times


def summary(times: dict[str, list[float]], against: str) -> dict:
    """Median milliseconds, and how many times faster than ``against``: median, least and most over the rounds."""
    found = {}
    for name, values in times.items():
        ratios = [base / value for base, value in zip(times[against], values, strict=True)]
        found[name] = {
            "ms": round(1e3 * statistics.median(values), 3),
            "times_faster": [round(f(ratios), 2) for f in (statistics.median, min, max)],
        }
    return found


def copy_bytes_per_second(device: torch.device) -> float:
    source = torch.ones(64 * 2**20, device=device)
    target = torch.empty_like(source)
    times = rounds_of({"copy": lambda: target.copy_(source)}, device, 10)["copy"]
    return 2 * source.nbytes / statistics.median(times)


def measure(shape, groups, device, dtype, rounds: int, copy: float) -> list[dict]:
    """One row for the forward pass and one for forward and backward."""
    torch.manual_seed(0)
    n, height, width, _ = shape
    sizes = (shape[3], groups * 18, groups * 9)
    tensors = [torch.randn(n, height, width, c, device=device, dtype=dtype, requires_grad=True) for c in sizes]
    runs = implementations(tensors, groups)
    if dtype == torch.float32:
        torch.testing.assert_close(runs["kernels"][0](), runs[BASELINE][0](), rtol=1e-3, atol=1e-3)
    inputs, output = sum(t.nbytes for t in tensors), tensors[0].nbytes
    rows = []
    for i, what in enumerate(("forward", "forward+backward")):
        chosen = {name: pair[i] for name, pair in runs.items()}
        with torch.set_grad_enabled(i == 1):
            result = summary(rounds_of(chosen, device, rounds), BASELINE)
        moved = inputs + output + i * (output + 2 * inputs)
        for values in result.values():
            values["share_of_copy"] = round(moved / (values["ms"] / 1e3) / copy, 3)
        rows.append({"shape": shape, "groups": groups, "what": what, **result})
    return rows


def whole_network(device: torch.device, rounds: int) -> dict:
    """InternImage-T, forward, 1x3x512x1024 in float32, on each implementation.

    ``nothing`` puts the projected input in the operator's place: what no operator, however fast, can beat.
    """
    torch.manual_seed(0)
    network = InternImage(**VARIANTS["t"]).to(device).eval()
    image = torch.randn(1, 3, 512, 1024, device=device)
    stand_ins = {
        "kernels": None,
        "plain PyTorch": None,
        BASELINE: lambda x, offset, mask, groups, **_: grid_sample_form(x, offset, mask, groups),
        "nothing": lambda x, *_, **__: x,
    }

    def on(name):
        with patch.object(module, "dcnv3", stand_ins[name] or ops_dcnv3.dcnv3):
            if name == "plain PyTorch":
                with ops_dcnv3.reference_only():
                    return network(image)
            return network(image)

    with torch.no_grad():
        for ours, theirs in zip(on("kernels"), on(BASELINE), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
        times = rounds_of({name: partial(on, name) for name in stand_ins}, device, rounds)
    return {f"against {name}": summary(times, name) for name in ("plain PyTorch", BASELINE)}


def picture(rows: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = [name for name in rows[0] if isinstance(rows[0][name], dict) and name != BASELINE]
    figure, axes = plt.subplots(1, 2, figsize=(12, 0.28 * len(rows) + 1.5), sharey=True, layout="constrained")
    for axis, what in zip(axes, ("forward", "forward+backward"), strict=True):
        chosen = [row for row in rows if row["what"] == what][::-1]
        for k, name in enumerate(names):
            at = [i + 0.8 * ((k + 0.5) / len(names) - 0.5) for i in range(len(chosen))]
            middle, least, most = zip(*(row[name]["times_faster"] for row in chosen), strict=True)
            reach = [
                [m - a for m, a in zip(middle, least, strict=True)],
                [b - m for m, b in zip(middle, most, strict=True)],
            ]
            axis.barh(at, middle, 0.8 / len(names), xerr=reach, label=name, error_kw={"lw": 0.7})
        axis.axvline(1, color="black", lw=0.8)
        axis.set_yticks(range(len(chosen)), [row["name"] for row in chosen])
        axis.set(title=what, xlabel=f"times faster than {BASELINE} (bar: least to most)")
    axes[0].legend()
    figure.savefig(path, dpi=90)


def show(row: dict) -> str:
    cells = []
    for name, found in row.items():
        if isinstance(found, dict):
            middle, least, most = found["times_faster"]
            share = f", {found['share_of_copy']:.0%} of copy" if "share_of_copy" in found else ""
            cells.append(f"{name} {found['ms']} ms, {middle}x ({least}-{most}){share}")
    return f"{row['name']}, {row['what']}: {'; '.join(cells)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    if device.type in ops_dcnv3.kernels.absent:
        raise SystemExit(f"no {device.type.upper()} kernels: {ops_dcnv3.kernels.absent[device.type]}")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    machine = {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__}
    copy = copy_bytes_per_second(device)
    print(f"{machine}; copy {copy / 1e9:.1f} GB/s; {options.dtype}; times faster: median (least-most)")
    rows = []
    cases = [
        (f"{network} {size} stage {stage + 1}", VARIANTS[NETWORKS[network]], SIZES[size], stage)
        for network in options.networks
        for size in options.sizes
        for stage in range(4)
    ]
    for title, variant, (height, width), stage in tqdm(cases, unit="shape"):
        scale = 4 << stage
        shape = (1, height // scale, width // scale, variant["channels"] << stage)
        for row in measure(shape, variant["groups"][stage], device, dtype, options.rounds, copy):
            rows.append({"name": title, **row})
            tqdm.write(show(rows[-1]))
    network = whole_network(device, options.rounds)
    for against, found in network.items():
        print(show({"name": "InternImage-T 1x3x512x1024", "what": f"forward {against}", **found}))
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / f"dcnv3-{device.type}{'' if dtype == torch.float32 else '-' + options.dtype}"
    record = {"machine": machine, "dtype": options.dtype, "copy_GB_per_s": round(copy / 1e9, 1)}
    stem.with_suffix(".json").write_text(json.dumps({**record, "rows": rows, "network": network}, indent=1) + "\n")
    picture(rows, stem.with_suffix(".png"))


if __name__ == "__main__":
    main()
