"""Progress of a training: a line of output for each state, and the bar that follows these lines."""

import json
from collections.abc import Iterable, Iterator

from tqdm import tqdm

PROGRESS = "@progress "
"""Prefix of an output line that carries the training's state as JSON: ``iter``, and ``loss`` or ``mIoU``."""


def print_state(**state: float) -> None:
    """Print a state as such a line."""
    print(f"{PROGRESS}{json.dumps(state)}", flush=True)


def progress_bar(lines: Iterable[str], max_iters: int) -> Iterator[str]:
    """Show the states in a training's output as a progress bar; yield its other lines."""
    state: dict[str, float] = {}
    with tqdm(total=max_iters, desc="train", unit="iter", mininterval=1) as bar:
        for line in lines:
            if not line.startswith(PROGRESS):
                yield line
                continue
            news = json.loads(line.removeprefix(PROGRESS))
            if not state:  # a resumed training does not start at zero
                bar.initial = bar.n = news["iter"]
            state |= news
            bar.set_postfix({k: f"{v:.3f}" for k, v in state.items() if k != "iter"}, refresh=False)
            bar.update(state["iter"] - bar.n)
