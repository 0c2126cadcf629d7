"""Work on many files at once."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(work: Callable[[Item], Result], items: Sequence[Item], title: str) -> list[Result]:
    """Return ``work`` of each item, in the items' order; one thread per core, with a progress bar after a second.

    BLAS runs on one thread meanwhile: each item keeps a core busy.
    """
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(tqdm(pool.map(work, items), total=len(items), desc=title, unit="image", mininterval=1, delay=1))


def evenly_spaced(items: Iterable[Item], most: int) -> list[Item]:
    """Return at most ``most`` items, evenly spaced and in order; the same ones every time."""
    items = list(items)
    places = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[place] for place in np.unique(places)]
