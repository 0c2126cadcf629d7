"""Image and label files: read and written whole, or refused in one sentence."""

import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from lib.dataset.classes import CLASSES, IGNORE
from lib.errors import Fault, InputError
from lib.files import whole_file

_PNG = b"\x89PNG\r\n\x1a\n"
_GREY = b"\x08\x00"  # bit depth and colour type in the header of a PNG of 8-bit grey values
_JPEG = b"\xff\xd8\xff"
_LISTED = 5  # label values that a fault names


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file as ``uint8 (H, W, 3)`` RGB, also a grey, RGBA, palette or 16-bit one, or raise InputError."""
    # Orientation tags are ignored: lens and labels belong to the sensor's pixels.
    flags, image = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION, None
    with suppress(cv2.error):
        image = cv2.imdecode(np.frombuffer(_whole_bytes(path), np.uint8), flags)
    if image is None:
        raise InputError(Fault(path, "truncated, or not an image that OpenCV reads", "Copy or convert it again."))
    return image


def read_label(path: str | Path) -> np.ndarray:
    """Read a label file as ``uint8 (H, W)``: grey values up to 255, or the indices of a palette image.

    Raises:
        InputError: missing, truncated, damaged, not single-channel, lossy (JPEG), or a value above 255.
    """
    data, remedy = _whole_bytes(path), "Re-export the label as class ids."
    if data[: len(_PNG)] == _PNG and data[24:26] == _GREY:
        label = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)  # three times faster than Pillow
        if label is not None and label.ndim == 2:
            return label
    try:
        with Image.open(io.BytesIO(data)) as image:  # OpenCV would replace palette indices by their colours
            file_format, mode = image.format, image.mode
            label = np.asarray(image.convert("L") if mode == "1" else image)
    except Exception:
        found = "truncated, or not an image that Pillow reads"
        raise InputError(Fault(path, found, "Copy or convert it again.")) from None
    if file_format == "JPEG":
        raise InputError(Fault(path, "JPEG, which blurs class ids (expected: PNG)", remedy))
    if mode not in ("1", "L", "P", "I;16", "I;16B", "I"):
        raise InputError(Fault(path, f"{mode} pixels (expected: one channel)", remedy))
    if label.max() > 255:
        raise InputError(Fault(path, f"label value {label.max()} (allowed: class ids and {IGNORE})", remedy))
    return label.astype(np.uint8)


def odd_values(label: np.ndarray, classes: int = len(CLASSES)) -> str:
    """Return a sentence on values of a label ``uint8 (H, W)`` that are no class id and not IGNORE; empty for none."""
    # OpenCV counts without the interpreter lock and five times faster than NumPy.
    counts = cv2.calcHist([label], [0], None, [256], [0, 256]).ravel()
    odd = [value for value in np.flatnonzero(counts) if value >= classes and value != IGNORE]
    if not odd:
        return ""
    listed = ", ".join(map(str, odd[:_LISTED])) + (f" and {len(odd) - _LISTED} more" if len(odd) > _LISTED else "")
    return f"label value{'s' if len(odd) > 1 else ''} {listed} (allowed: 0–{classes - 1}, {IGNORE})"


def write_png(path: str | Path, array: np.ndarray, compress: bool = True) -> None:
    """Write ``uint8 (H, W)`` or ``uint8 (H, W, 3)`` RGB, whole or not at all; create missing folders.

    An uncompressed photograph takes 2.5 times the space, 1/8 of the time to write and 1/4 of the time to read.
    """
    options: list[int] = []
    if array.ndim == 3:
        array = cv2.cvtColor(array, cv2.COLOR_RGB2BGR)
        # Noisy photographs have no repetitions to search for.
        options = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY]
    if not compress:
        options = [cv2.IMWRITE_PNG_COMPRESSION, 0, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
    with whole_file(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", array, options)[1].tobytes())


def _whole_bytes(path: str | Path) -> bytes:
    """Read a file's bytes and refuse truncated or damaged ones; decoders would fill in the missing pixels."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        found = "not found" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise InputError(Fault(path, found, "Restore the file or correct the path.")) from None
    found = "" if data else "empty file"
    if data.startswith(_PNG):
        found = _png_fault(memoryview(data))
    elif data.startswith(_JPEG) and data.find(b"\xff\xda", data.rfind(b"\xff\xd9") + 1) >= 0:
        # A scan without an end marker after it; a thumbnail has an end marker of its own.
        found = "truncated JPEG (no end marker)"
    if found:
        raise InputError(Fault(path, found, "Copy the file again."))
    return data


def _png_fault(data: memoryview) -> str:
    """Check the chunks (PNG specification, 5.3): length, type, content, checksum of type and content."""
    start, kind = len(_PNG), b""
    try:
        while kind != b"IEND":
            length, kind = struct.unpack_from(">I4s", data, start)
            end = start + 12 + length
            if struct.unpack_from(">I", data, end - 4) != (zlib.crc32(data[start + 4 : end - 4]),):
                return f"damaged PNG (wrong checksum at byte {start})"
            start = end
    except struct.error:  # the data end before
        return "truncated PNG (no IEND chunk)"
    return ""


def image_size(path: Path) -> tuple[int, int]:
    """Return the (width, height) of an image file; a PNG is checked by its checksums and not decoded."""
    data = _whole_bytes(path)
    if data.startswith(_PNG) and data[12:16] == b"IHDR":
        return struct.unpack_from(">II", data, 16)
    return read_image(path).shape[1::-1]
