"""Image files byte by byte, also such as no writer makes, and a small sound data set."""

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from lib.dataset import image_files, layout
from lib.dataset.classes import CLASSES
from lib.dataset.jpeg_decoder import JpegDecoder

WIDTH, HEIGHT = 16, 12
DECODER = JpegDecoder(1)  # its process ends with this one; starting one takes longer than all cases
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def ids(seed: int = 0, width: int = WIDTH, height: int = HEIGHT, most: int = len(CLASSES)) -> np.ndarray:
    """Return a random label ``uint8 (height, width)`` of ids below ``most``."""
    return np.random.default_rng(seed).integers(0, most, (height, width), dtype=np.uint8)


def photo(seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Return a smooth random image ``uint8 (height, width, 3)``."""
    noise = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height)))


LABEL, PHOTO = ids(), photo()
COLOURS = [(7 * i, 255 - i, 3 * i) for i in range(len(CLASSES))]
"""Colours of a palette with an entry per class."""


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a PNG chunk with its right checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def packed(samples: np.ndarray, bits: int) -> list[bytes]:
    """Return each row of ``(H, W)`` samples as bytes, most significant bit first."""
    if bits == 16:
        return [row.astype(">u2").tobytes() for row in samples]
    single = np.unpackbits(samples.astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :]
    return [np.packbits(row.ravel()).tobytes() for row in single]


def png(
    samples: np.ndarray,
    bits: int = 8,
    colour: int = 0,
    *,
    before: bytes = b"",
    data: bytes | None = None,
    size: tuple[int, int] | None = None,
    rows: int | None = None,
    interlaced: int = 0,
) -> bytes:
    """Return a PNG of samples ``(H, W)`` or ``(H, W, channels)``.

    Args:
        before: chunks before the pixels.
        data: compressed pixels; default: those of the samples.
        size: (width, height) in the header; default: the samples'.
        rows: number of rows that the file holds; default: all.
        interlaced: the header's interlace method; the pixels are not reordered.
    """
    height, width = samples.shape[:2]
    lines = packed(samples.reshape(height, -1), bits)[:rows]
    data = zlib.compress(b"".join(b"\0" + line for line in lines)) if data is None else data
    header = struct.pack(">IIBBBBB", *(size or (width, height)), bits, colour, 0, 0, interlaced)
    return SIGNATURE + chunk(b"IHDR", header) + before + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def palette_chunk(colours: Sequence[Sequence[int]]) -> bytes:
    """Return the PLTE chunk of these RGB colours."""
    return chunk(b"PLTE", bytes(np.array(colours, np.uint8).ravel()))


def adam7(samples: np.ndarray) -> bytes:
    """Return the compressed pixels of an interlaced 8-bit grey PNG."""
    steps = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    passes = [samples[y::down, x::across] for x, y, across, down in steps]
    return zlib.compress(b"".join(b"\0" + row.tobytes() for part in passes if part.size for row in part))


def tiff(pixels: bytes, bits: int = 8, size: tuple[int, int] = (WIDTH, HEIGHT), **more: int) -> bytes:
    """Return an uncompressed little-endian TIFF of one channel.

    ``more``: photometric (default 1), sample_format, orientation.
    """
    tags = {256: size[0], 257: size[1], 258: bits, 259: 1, 262: more.get("photometric", 1), 273: 8}
    tags |= {277: 1, 278: size[1], 279: len(pixels)}
    tags |= {274: more["orientation"]} if "orientation" in more else {}
    tags |= {339: more["sample_format"]} if "sample_format" in more else {}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    start = 8 + len(pixels)
    return b"II*\0" + struct.pack("<I", start) + pixels + struct.pack("<H", len(tags)) + entries + bytes(4)


def saved(array: np.ndarray, image_format: str, mode: str | None = None, **options) -> bytes:
    """Return what Pillow writes for an array."""
    file = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(file, image_format, **options)
    return file.getvalue()


def two_frames(first: np.ndarray, second: np.ndarray, image_format: str) -> bytes:
    """Return an image file of two frames."""
    return saved(first, image_format, save_all=True, append_images=[Image.fromarray(second)])


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def data_set(folder: Path) -> Path:
    """Write a sound set of two images per split, 16×12 PNGs, and return its folder."""
    for split, columns in layout.SPLITS.items():
        rows = []
        for i in range(2):
            seed, name = len(rows) + 10 * list(layout.SPLITS).index(split), f"{split}_{i}"
            image_files.write_png(folder / "image" / f"{name}.png", photo(seed))
            row = [name, f"./image/{name}.png"]
            if "gt_path" in columns:
                image_files.write_png(folder / "gt" / f"{name}.png", ids(seed))
                row.append(f"./gt/{name}.png")
            rows.append(row)
        layout.write_table(folder / f"{split}.csv", columns, rows)
    layout.write_sample(folder, ["test_0", "test_1"])
    return folder


def check_image(path: Path) -> image_files.ImageFacts:
    """Check an image file as ``layout.check`` does."""
    return image_files.check_image(path, DECODER)
