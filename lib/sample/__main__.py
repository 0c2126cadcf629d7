"""``python -m lib.sample --out DIR``: draw the built-in data set."""

from __future__ import annotations

import argparse
import sys

from lib.errors import InputError
from lib.sample import write


def main() -> None:
    show = argparse.ArgumentDefaultsHelpFormatter
    about = "Draw the built-in data set."
    parser = argparse.ArgumentParser(prog="python -m lib.sample", description=about, formatter_class=show)
    parser.add_argument("--out", required=True, help="folder of the data set")
    for split, count in (("source", 40), ("val", 8), ("target", 24), ("test", 12)):
        parser.add_argument(f"--{split}", type=int, default=count, help=f"number of {split} images")
    pixels = {"type": int, "nargs": 2, "metavar": ("WIDTH", "HEIGHT")}
    parser.add_argument("--size", **pixels, default=(480, 270), help="of target and test images")
    parser.add_argument("--source-size", **pixels, help="of source images; as --size where not given")
    parser.add_argument("--seed", type=int, default=0, help="the same seed draws the same files")
    parser.add_argument("--overwrite", action="store_true", help="replace a set that other parameters made")
    try:
        write(**vars(parser.parse_args()))
    except InputError as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
