"""The model zoo: every composed recipe with its size, its work and an estimate of the memory it trains in.

``python -m lib.tools.zoo`` prints the table; see :mod:`lib.tools.costs` for how the figures come about.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lib import recipes
from lib.errors import InputError
from lib.recipes import compose, datasets, heads


@dataclass(frozen=True)
class Entry:
    """A line of the table."""

    name: str
    parameters: int
    size: tuple[int, int]
    """(height, width) of the image that ``multiply_adds`` is for."""
    multiply_adds: float
    crop_size: tuple[int, int]
    batch: int
    training_bytes: float
    """An estimate, of one card, in mixed precision."""
    training_bytes_recomputing: float
    """The same with the backbone's blocks recomputed in the backward pass."""


def named_size(parts: compose.Parts) -> tuple[int, int]:
    """(height, width) at which the public tables count a recipe's work."""
    if parts.data != "ade20k":
        return 1024, 2048
    height = parts.crop_size[0]
    return (height, height) if compose.TRAINING[parts.variant].side > 640 else (height, 4 * height)


def entries(
    variants: Iterable[str] = tuple(compose.TRAINING),
    of_heads: Iterable[str] = heads.HEADS,
    data: Iterable[str] = tuple(datasets.DATA),
    batch: int = 2,
) -> Iterator[Entry]:
    """The zoo's entries, each as soon as it is measured (seconds per variant).

    Args:
        variants, of_heads, data: which; all unless told.
        batch: crops per card, for the memory.

    Raises:
        InputError: Mask2Former is asked for and not installed.
    """
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # mmseg tells of optional parts that are not installed
        from lib.tools import costs
    for variant in variants:
        for head in of_heads:
            for kind in data:
                parts = compose.parts(head, variant, kind)
                found = costs.measure(recipes.load(str(parts)))
                size, crop = named_size(parts), parts.crop_size
                memory = [found.training_bytes(crop, batch, recompute=again) for again in (False, True)]
                yield Entry(
                    str(parts), found.parameters, size, found.multiply_adds(size), crop, batch, memory[0], memory[1]
                )


_WIDTHS = (52, 11, 18, 22)


def _row(*cells: str) -> str:
    return "".join(f"{cell:<{width}}" for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lib.tools.zoo",
        description="List the composed recipes with what they cost; sizes are height x width.",
    )
    parser.add_argument("--variant", nargs="+", choices=tuple(compose.TRAINING), default=tuple(compose.TRAINING))
    parser.add_argument("--head", nargs="+", choices=heads.HEADS, default=heads.HEADS)
    parser.add_argument("--data", nargs="+", choices=tuple(datasets.DATA), default=tuple(datasets.DATA))
    parser.add_argument("--batch", type=int, default=2, help="crops per card, for the memory (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    print(_row("recipe (its crop)", "parameters", "multiply-adds", "training memory, GiB"))
    print(_row("", "million", "10^9, at", f"estimated, batch {chosen.batch}"))
    try:
        for entry in entries(chosen.variant, chosen.head, chosen.data, chosen.batch):
            work = f"{entry.multiply_adds / 1e9:.0f}, {entry.size[0]}x{entry.size[1]}"
            plain, recomputing = (value / 2**30 for value in (entry.training_bytes, entry.training_bytes_recomputing))
            memory = f"{plain:.1f}, {recomputing:.1f} with_cp"
            print(_row(entry.name, f"{entry.parameters / 1e6:.1f}", work, memory), flush=True)
    except InputError as error:
        raise SystemExit(f"{error} (python -m lib.tools.zoo --head upernet segformer lists the rest.)") from None


if __name__ == "__main__":
    main()
