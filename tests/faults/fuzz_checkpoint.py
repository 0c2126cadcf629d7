"""Checkpoints and configs of a training with random changes: refused, or read exactly as they were written."""

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import torch
from torch import Tensor

from lib.errors import InputError
from lib.internimage.checkpoints import formats
from lib.recipes.config_file import read_config
from tests.builders import training_run, training_state


@cache
def _files() -> tuple[bytes, bytes]:
    """Content of a small checkpoint and of a config."""
    run = training_run(Path(mkdtemp()))
    state = training_state(1) | {"state_dict": _weights()}
    torch.save(state, run.train / "iter_1.pth")
    return run.last_checkpoint().read_bytes(), run.config.read_bytes()


def _weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 3, 3, 3), (4,), (8, 4), (), (300,)]
    return {f"layer{i}.weight": torch.randn(shape, generator=generator) for i, shape in enumerate(shapes)}


def _flip(content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 10))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def _cut(content: bytearray, rng: random.Random) -> None:
    del content[rng.randrange(len(content)) :]


def _drop(content: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(content))
    del content[start : start + rng.choice((1, 2, 64, 512))]


def _insert(content: bytearray, rng: random.Random) -> None:
    place = rng.randrange(len(content))
    content[place:place] = rng.randbytes(rng.choice((1, 2, 64)))


def _overwrite(content: bytearray, rng: random.Random) -> None:
    place, block = rng.randrange(len(content)), rng.choice((1, 4, 64, 512))
    content[place : place + block] = rng.choice((bytes(block), b"\xff" * block, rng.randbytes(block)))


def _repeat(content: bytearray, rng: random.Random) -> None:
    start, block = rng.randrange(len(content)), rng.choice((4, 64, 512))
    place = rng.randrange(len(content))
    content[place : place + block] = content[start : start + block]


_CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (_flip, _cut, _drop, _insert, _overwrite, _repeat)


def one(seed: int, folder: Path) -> bool:
    """Change a checkpoint, or every fourth time a config, and read it; return whether it was accepted.

    Raises:
        AssertionError: a checkpoint was accepted with other weights than those written.
    """
    rng = random.Random(seed)
    is_config = seed % 4 == 0
    content = bytearray(_files()[is_config])
    rng.choice(_CHANGES)(content, rng)
    path = folder / ("config.json" if is_config else "iter_1.pth")
    path.write_bytes(content)
    try:
        if is_config:
            read_config(path)
        else:
            found = formats.weights(path, ema=False)[0]
    except InputError as error:
        assert path.name in str(error), error
        return False
    if not is_config:
        expected = _weights()
        assert found.keys() == expected.keys(), "other names"
        assert all(torch.equal(found[name], expected[name]) for name in expected), "other weights"
    return True
