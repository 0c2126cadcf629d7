"""Progress of a training: a line of output for each state, and the bar that follows these lines."""

import json
import sys
from collections.abc import Iterable, Iterator

from tqdm import tqdm

PROGRESS = "@progress "
"""Prefix of an output line that carries the training's state as JSON: ``iter``, and ``loss`` or ``mIoU``."""


NOTE = "@note "
"""Prefix of an output line that is shown above the bar."""


def print_note(text: str) -> None:
    """Print a sentence as such a line."""
    print(f"{NOTE}{text}", flush=True)


def print_state(**state: float) -> None:
    """Print a state as such a line."""
    print(f"{PROGRESS}{json.dumps(state)}", flush=True)


def progress_bar(lines: Iterable[str], max_iters: int) -> Iterator[str]:
    """Show the states in a training's output as a progress bar, and its notes above; yield all but the states."""
    state: dict[str, float] = {}
    with tqdm(total=max_iters, desc="train", unit="iter", mininterval=1) as bar:
        for line in lines:
            if line.startswith(NOTE):
                line = line.removeprefix(NOTE)
                bar.write(line, file=sys.stderr, end="")
            if not line.startswith(PROGRESS):
                yield line
                continue
            news = json.loads(line.removeprefix(PROGRESS))
            if not state:  # a resumed training does not start at zero
                bar.initial = bar.n = news["iter"]
            state |= news
            bar.set_postfix({k: f"{v:.3f}" for k, v in state.items() if k != "iter"}, refresh=False)
            bar.update(state["iter"] - bar.n)
