"""The model zoo: every composed recipe with its size, its work and its estimated training memory.

:mod:`lib.recipes.costs` measures them without building a network in memory.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lib import recipes
from lib.errors import InputError
from lib.recipes import compose, datasets, heads

_WIDTHS = (52, 11, 18, 22)


@dataclass(frozen=True)
class Entry:
    """Costs of a recipe.

    Attributes:
        name: the recipe's name.
        parameters: number of parameters.
        size: (height, width) of the image that ``multiply_adds`` is for.
        multiply_adds: of labelling one image.
        crop_size: (height, width) of training crops.
        batch: crops per device, for the memory.
        training_bytes: estimated memory of a device in mixed precision.
        checkpointing_bytes: the same with activation checkpointing of the backbone.
    """

    name: str
    parameters: int
    size: tuple[int, int]
    multiply_adds: float
    crop_size: tuple[int, int]
    batch: int
    training_bytes: float
    checkpointing_bytes: float


def published_size(parts: compose.Parts) -> tuple[int, int]:
    """Return the (height, width) for which the public tables give a recipe's multiply-adds."""
    if parts.data != "ade20k":
        return 1024, 2048
    height = parts.crop_size[0]
    return (height, height) if compose.TRAINING[parts.variant].side > 640 else (height, 4 * height)


def entries(
    variants: Iterable[str] = tuple(compose.TRAINING),
    head_names: Iterable[str] = heads.HEADS,
    data: Iterable[str] = tuple(datasets.DATA),
    batch: int = 2,
) -> Iterator[Entry]:
    """Yield the zoo's entries, each as soon as it is measured (seconds per variant).

    Args:
        variants, head_names, data: parts of the recipes; all by default.
        batch: crops per device, for the memory.

    Raises:
        InputError: Mask2Former is not installed.
    """
    with recipes.quiet():
        from lib.recipes import costs
    for variant in variants:
        for head in head_names:
            for data_set in data:
                parts = compose.parts(head, variant, data_set)
                try:
                    measured = costs.measure(recipes.load(str(parts)))
                except InputError as error:
                    rest = " ".join(f"--head {name}" for name in heads.HEADS if name != head)
                    raise InputError(f"{error} (fisheye zoo {rest} lists the rest.)") from None
                size, crop = published_size(parts), parts.crop_size
                yield Entry(
                    name=str(parts),
                    parameters=measured.parameters,
                    size=size,
                    multiply_adds=measured.multiply_adds(size),
                    crop_size=crop,
                    batch=batch,
                    training_bytes=measured.training_bytes(crop, batch),
                    checkpointing_bytes=measured.training_bytes(crop, batch, checkpointing=True),
                )


def header(batch: int) -> str:
    """Return the two header lines of the table."""
    first = _line("recipe (its crop)", "parameters", "multiply-adds", "training memory, GiB")
    return f"{first}\n{_line('', 'million', '10^9, at', f'estimated, batch {batch}')}"


def row(entry: Entry) -> str:
    """Return an entry as a line of the table."""
    work = f"{entry.multiply_adds / 1e9:.0f}, {entry.size[0]}x{entry.size[1]}"
    memory = f"{entry.training_bytes / 2**30:.1f}, {entry.checkpointing_bytes / 2**30:.1f} with_cp"
    return _line(entry.name, f"{entry.parameters / 1e6:.1f}", work, memory)


def _line(*cells: str) -> str:
    return "".join(f"{cell:<{width}}" for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip()
