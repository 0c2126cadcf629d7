"""Make a file of weights alone out of a **trusted** checkpoint that holds more: ``python -m lib.tools.convert OLD NEW``.

This is the only place that reads a file with whatever code it brings along.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from lib.errors import InputError
from lib.files import whole_file


def convert(old: str | Path, new: str | Path) -> int:
    """Write the tensors of a **trusted** file, and nothing else of it, to ``new``; whatever code it holds is run.

    Returns:
        How many tensors there are.

    Raises:
        InputError: no such file, or one without tensors.
    """
    if not Path(old).is_file():
        raise InputError(f"{old}: no such file (expected a checkpoint written by torch.save).")
    content = torch.load(old, map_location="cpu", weights_only=False)
    kept = _only_tensors(content)
    if not kept:
        raise InputError(f"{old}: holds no tensors.")
    with whole_file(new) as temporary:
        torch.save(kept, temporary)
    return _count(kept)


def _only_tensors(content) -> dict:
    """The mappings of names to tensors in ``content``, at any depth; everything else is left out."""
    if not isinstance(content, Mapping):
        return {}
    kept = {name: value.detach() for name, value in content.items() if isinstance(value, Tensor)}
    inner = {name: _only_tensors(value) for name, value in content.items() if name != "optimizer"}
    return kept | {name: value for name, value in inner.items() if value}


def _count(kept: dict) -> int:
    return sum(_count(value) if isinstance(value, dict) else 1 for value in kept.values())


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m lib.tools.convert",
        description="Write the tensors of a checkpoint, and nothing else of it, to a new file. RUNS WHATEVER CODE THE "
        "OLD FILE HOLDS: only for files from a source that you trust.",
    )
    parser.add_argument("old")
    parser.add_argument("new")
    args = parser.parse_args(arguments)
    try:
        print(f"{args.new}: {convert(args.old, args.new)} tensors")
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
