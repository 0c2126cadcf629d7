"""Damage inside JPEG files: libjpeg mentions it on the error output, without a file's name, and decodes garbage.

A child process decodes one file at a time, so that its error output belongs to that file.
"""

import os
import queue
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

_DONE = b"\0done\n"
_FILES = 64  # per further process


class JpegDecoder:
    """Child processes that decode JPEGs, one per core at most; a context manager that ends them.

    ``files`` is the number of files to expect: a few do not repay the start of a second process.
    """

    def __init__(self, files: int):
        self._children: list[subprocess.Popen] = []
        self._idle: queue.SimpleQueue[subprocess.Popen | None] = queue.SimpleQueue()
        for _ in range(min(os.cpu_count() or 1, 1 + files // _FILES)):
            self._idle.put(None)  # started by the first file that needs it

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in self._children:
            child.kill()
            child.communicate()

    def damage(self, path: str | Path) -> str:
        """Return libjpeg's first warning on a file, empty for none.

        A damaged byte that still decodes, to other colours, causes no warning.
        """
        child, said = self._idle.get(), b""
        try:
            child = child or self._start()
            assert child.stdin and child.stderr
            with suppress(BrokenPipeError):
                child.stdin.write(os.fsencode(path).hex().encode() + b"\n")
            while not said.endswith(_DONE):
                part = child.stderr.read(1 << 16)
                if not part:
                    child = None  # the next file gets another process
                    return "the decoder crashes"
                said += part
        finally:
            self._idle.put(child)
        return said.removesuffix(_DONE).partition(b"\n")[0].decode(errors="replace")

    def _start(self) -> subprocess.Popen:
        # By its path and without its folder: any working directory will do, and no module there is imported.
        command, pipe = [sys.executable, "-P", __file__], subprocess.PIPE
        child = subprocess.Popen(command, stdin=pipe, stderr=pipe, bufsize=0)
        self._children.append(child)
        return child


def _decode_named() -> None:
    import cv2
    import numpy as np

    cv2.setNumThreads(1)
    for name in sys.stdin:
        data = np.frombuffer(Path(os.fsdecode(bytes.fromhex(name))).read_bytes(), np.uint8)
        # An eighth of the size: all data are read and checked, and few pixels computed.
        if cv2.imdecode(data, cv2.IMREAD_REDUCED_GRAYSCALE_8) is None:
            os.write(2, b"not decoded\n")
        os.write(2, _DONE)


if __name__ == "__main__":
    _decode_named()
