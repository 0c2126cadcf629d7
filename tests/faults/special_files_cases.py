"""Pipes, folders, devices and links in place of images, labels and tables: each is refused in plain words."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

from lib.dataset import image_files, layout
from tests.faults.cases import Cases
from tests.faults.image_builder import check_image, data_set, write
from tests.faults.outcome import refused

CASES = Cases()
SPECIAL: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a socket": lambda path: socket.socket(socket.AF_UNIX).bind(os.path.relpath(path)),
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a link to /dev/null": lambda path: path.symlink_to("/dev/null"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a file of 1 TB": lambda path: os.truncate(write(path, b"\x89PNG"), 10**12),
}
for kind, make in SPECIAL.items():
    for role, read in (("image", check_image), ("label", image_files.read_label)):

        @CASES.register(f"{role}: {kind}")
        def special(folder: Path, make=make, read=read) -> None:
            make(folder / "x.png")
            refused(read, folder / "x.png", naming="x.png")

    if kind == "a file of 1 TB":  # a table has no limit
        continue

    @CASES.register(f"table: {kind}")
    def special_table(folder: Path, make=make) -> None:
        data_set(folder)
        (folder / "train_target.csv").unlink()
        make(folder / "train_target.csv")
        refused(layout.check, folder, naming="train_target.csv")
