"""Compile the kernels into the package's folder: ``python -m ops_dcnv3.build``. Prints a sentence for each part."""

from __future__ import annotations

import argparse
import sys
import time

from ops_dcnv3 import compilation


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 1 if there is a compiler and it fails on the CPU part, else 0."""
    parser = argparse.ArgumentParser(prog="python -m ops_dcnv3.build", description="Compile the DCNv3 kernels.")
    parser.add_argument("--force", action="store_true", help="compile parts that are up to date too")
    force = parser.parse_args(arguments).force
    try:
        compilation.compiler()
    except compilation.BuildError as error:
        print(f"ops_dcnv3: {error}; DCNv3 will run in plain PyTorch, which is slower.")
        return 0
    failed = False
    for part in ("cpu", "cuda"):
        start = time.perf_counter()
        try:
            library = compilation.build(part, force=force)
        except compilation.BuildError as error:
            failed |= part == "cpu"
            print(f"ops_dcnv3: no {part.upper()} kernels: {error}", file=sys.stderr if failed else sys.stdout)
        else:
            print(f"ops_dcnv3: {part.upper()} kernels in {library.name} ({time.perf_counter() - start:.1f} s)")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
