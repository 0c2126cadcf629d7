"""Random calls of the operator, for a run under a sanitizer: ``python -m tests.faults.operator_runs 0 100``.

Shapes, groups, strides, paddings and dilations are random; some batches are empty, some offsets lie far outside the
image or are not finite. Each call is forward and backward.
"""

import argparse
import random

import torch

from tests.ops_dcnv3.builders import case

_SPREADS = (0.0, 0.5, 1.5, 30.0, 1e4, 1e9, 1e30)
_DTYPES = (torch.float32, torch.float64, torch.bfloat16)
_ODD = (float("nan"), float("inf"), float("-inf"), 3e38, -3e38)


def one(seed: int, device: str) -> None:
    """Call the operator and its gradient once."""
    rng = random.Random(seed)
    kernel = rng.choice((1, 2, 3, 3, 3, 5, (3, 2), (1, 4)))
    wide = max(kernel) if isinstance(kernel, tuple) else kernel
    dilation = rng.choice((1, 1, 2, 3, (1, 2)))
    reach = (wide - 1) * (max(dilation) if isinstance(dilation, tuple) else dilation)
    centred = kernel in (3, 5) and rng.random() < 0.3
    inputs, call = case(
        (rng.choice((0, 1, 1, 2, 3)), *(max(1, reach + rng.randint(-3, 12)) for _ in range(2))),
        width=rng.choice((1, 2, 3, 4, 7, 8, 16, 17, 31, 33)),
        dtype=rng.choice(_DTYPES),
        spread=rng.choice(_SPREADS),
        seed=seed,
        kernel_size=kernel,
        stride=rng.choice((1, 1, 2, 3, (1, 3))),
        padding=reach // 2 + rng.choice((2, 2, 3)),
        dilation=dilation,
        groups=rng.choice((1, 2, 3, 4, 8)),
        offset_scale=rng.choice((1.0, 0.5, -1.5, 0.0, 1e6)),
        remove_center=centred,
    )
    for tensor in inputs[1:3]:
        if tensor.numel() and rng.random() < 0.2:
            tensor.view(-1)[rng.randrange(tensor.numel())] = rng.choice(_ODD)
    *inputs, grad = (tensor.to(device) for tensor in inputs)
    torch.ops.ops_dcnv3.dcnv3(*inputs, *call)
    torch.ops.ops_dcnv3.dcnv3_backward(grad, *inputs, *call)
    if device != "cpu":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--library", help="library of kernels to load; default: the package's")
    arguments = parser.parse_args()
    import ops_dcnv3  # noqa: F401  declares the operator

    if arguments.library:
        torch.ops.load_library(arguments.library)
    for seed in range(arguments.first, arguments.first + arguments.count):
        print(f"seed {seed}", flush=True)
        one(seed, arguments.device)


if __name__ == "__main__":
    main()
