"""DCNv3 on the CPU: compiled kernels and plain PyTorch against the usual formulation with ``grid_sample``.

Times are taken in turn, so that a machine that slows down slows all of them; ratios are per round. Prints a table
and writes ``benchmarks/results/dcnv3-cpu.json``.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F

import ops_dcnv3

RESULTS = Path(__file__).parent / "results" / "dcnv3-cpu.json"
SHAPES = {  # InternImage-T at 512x1024: stage, (N, H, W, C), groups
    "stage 1": ((1, 128, 256, 64), 4),
    "stage 3": ((1, 32, 64, 256), 16),
}
ROUNDS = 15


def grid_sample_form(x, offset, mask, groups):
    """The same operator for 3x3, stride 1: pad, normalise the locations, sample each group, sum over the points."""
    n, height, width, channels = x.shape
    padded = F.pad(x, (0, 0, 1, 1, 1, 1))
    images = padded.view(n, height + 2, width + 2, groups, -1).permute(0, 3, 4, 1, 2).flatten(0, 1)
    rows, columns = torch.meshgrid(torch.arange(1.0, height + 1), torch.arange(1.0, width + 1), indexing="ij")
    point_x, point_y = torch.meshgrid(torch.arange(-1.0, 2), torch.arange(-1.0, 2), indexing="ij")
    points = torch.stack([point_x.flatten(), point_y.flatten()], -1)
    places = torch.stack([columns, rows], -1)[:, :, None, None] + points + offset.view(n, height, width, groups, 9, 2)
    grid = (places + 0.5) / torch.tensor([width + 2, height + 2]) * 2 - 1
    grid = grid.permute(0, 3, 1, 2, 4, 5).reshape(n * groups, height * width, 9, 2)
    sampled = F.grid_sample(images, grid, align_corners=False)
    weights = mask.view(n, height * width, groups, 9).transpose(1, 2).reshape(n * groups, 1, height * width, 9)
    return (sampled * weights).sum(-1).view(n, channels, height, width).permute(0, 2, 3, 1)


def seconds(run, tensors, backward: bool) -> float:
    start = time.perf_counter()
    if backward:
        torch.autograd.grad(run().sum(), tensors)
    else:
        with torch.no_grad():
            run()
    return time.perf_counter() - start


def measure(shape, groups, backward: bool) -> dict:
    """Median milliseconds of each formulation, and how many times faster than ``grid_sample``: median, least, most."""
    torch.manual_seed(0)
    places = shape[:3]
    tensors = [torch.randn(*places, c, requires_grad=True) for c in (shape[3], groups * 18, groups * 9)]

    def ours():
        return ops_dcnv3.dcnv3(*tensors, groups=groups)

    def baseline():
        return grid_sample_form(*tensors, groups)

    torch.testing.assert_close(ours(), baseline(), rtol=1e-3, atol=1e-3)
    times: dict[str, list[float]] = {"kernels": [], "plain PyTorch": [], "grid_sample": []}
    for round_ in range(ROUNDS + 2):
        taken = [seconds(ours, tensors, backward)]
        with ops_dcnv3.reference_only():
            taken.append(seconds(ours, tensors, backward))
        taken.append(seconds(baseline, tensors, backward))
        if round_ >= 2:  # the first two warm up
            for values, value in zip(times.values(), taken, strict=True):
                values.append(value)
    found = {}
    for name, values in times.items():
        ratios = [base / value for base, value in zip(times["grid_sample"], values, strict=True)]
        found[name] = {
            "ms": round(1e3 * statistics.median(values), 2),
            "times_faster": [round(f(ratios), 2) for f in (statistics.median, min, max)],
        }
    return found


def main() -> None:
    if "cpu" in ops_dcnv3.kernels.absent:
        raise SystemExit(f"no CPU kernels: {ops_dcnv3.kernels.absent['cpu']}")
    threads = torch.get_num_threads()
    rows = []
    print(f"float32, {threads} threads, {ROUNDS} rounds; times faster than grid_sample: median (least-most)")
    for stage, (shape, groups) in SHAPES.items():
        for backward in (False, True):
            result = measure(shape, groups, backward)
            what = "forward+backward" if backward else "forward"
            rows.append({"stage": stage, "shape": shape, "groups": groups, "what": what, **result})
            cells = [
                f"{name} {r['ms']} ms, {r['times_faster'][0]}x ({r['times_faster'][1]}-{r['times_faster'][2]})"
                for name, r in result.items()
            ]
            print(f"{stage}, {what}: {'; '.join(cells)}")
    machine = {"processor": platform.processor() or platform.machine(), "threads": threads, "torch": torch.__version__}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"machine": machine, "dtype": "float32", "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
