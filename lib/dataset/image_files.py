"""Image and label files: read and written whole, or refused in one sentence."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lib.dataset.classes import CLASSES, CLASSES_WITH_BACKGROUND, IGNORE, PALETTE
from lib.dataset.formats import Header, load, opened, png_data_fault, unreadable
from lib.dataset.jpeg_decoder import JpegDecoder
from lib.errors import Fault, InputError
from lib.files import whole_file

_LISTED = 5  # label values that a fault names
_LABEL_FORMATS = ("PNG", "TIFF", "BMP", "GIF")  # Pillow's names of formats that keep class ids
_LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp")
_MODES = {"F": "floating-point", "LA": "grey and alpha"}  # Pillow's modes in words
_ID_MODES = ("1", "L", "P", "I;16", "I;16B", "I")
_NO_COLOUR_MODES = ("F", "I", "CMYK", "LAB", "HSV")  # Pillow's modes that OpenCV would turn into wrong colours
_COPY, _EXPORT = "Copy the file again.", "Re-export the label as class ids."
_EXPORT_GREY = "Re-export all labels as grey values that are class ids."


@dataclass(frozen=True)
class ImageFacts:
    """Facts on a sound image: (width, height), digest of the content, and a 16-bit image's largest value."""

    size: tuple[int, int]
    digest: bytes
    largest: int | None


@dataclass(frozen=True)
class Label:
    """Class ids of a label, ``uint8 (H, W)``, and of a palette image the colours, ``uint8 (N, 3)`` RGB."""

    ids: np.ndarray
    palette: np.ndarray | None = None


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file as ``uint8 (H, W, 3)`` RGB, also a grey, palette or 16-bit one, or raise InputError.

    Orientation tags and transparency are ignored: lens and labels belong to the sensor's pixels.
    """
    data, header = load(path)
    if header.mode in _NO_COLOUR_MODES and header.format != "PPM":
        found = f"{_MODES.get(header.mode, header.mode)} pixels (expected: grey values or RGB)"
        raise InputError(Fault(path, found, "Convert the image to RGB."))
    return _decode(path, data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)


def check_image(path: str | Path, decoder: JpegDecoder) -> ImageFacts:
    """Read an image file in full and return the facts on it, or raise InputError.

    A PNG's data are inflated, which names the fault; decoding it would find the same ones.
    """
    data, header = load(path)
    largest = None
    if header.format == "JPEG":
        if said := decoder.damage(path):
            remedy = "Copy the file again, or store it as PNG if it looks right."
            raise InputError(Fault(path, f"JPEG damaged inside ({said})", remedy))
    elif header.format != "PNG":
        read_image(path)
    elif found := png_data_fault(data, header):
        raise InputError(Fault(path, found, _COPY))
    if header.bits == 16:
        largest = int(np.atleast_3d(_decode(path, data, cv2.IMREAD_UNCHANGED))[..., :3].max())  # without alpha
    return ImageFacts(header.size, hashlib.sha256(data).digest(), largest)


def image_size(path: Path) -> tuple[int, int]:
    """Return the (width, height) of an image file from its header; its pixels are not read."""
    return load(path)[1].size


def read_label(path: str | Path) -> np.ndarray:
    """Read a label file as ``uint8 (H, W)``; see :func:`load_label`."""
    return load_label(path).ids


def load_label(path: str | Path) -> Label:
    """Read a label file: grey values up to 255 of any bit depth, or the indices of a palette image.

    Raises:
        InputError: missing, truncated, damaged, not single-channel, lossy (JPEG), a value outside 0-255, or a palette
            that says that its indices are no class ids.
    """
    data, header = load(path)
    if header.format not in _LABEL_FORMATS:
        blurs = ", which blurs class ids" if header.format in ("JPEG", "WEBP", "JPEG2000", "AVIF") else ""
        raise InputError(Fault(path, f"{header.format}{blurs} (expected: PNG)", _EXPORT))
    if header.format == "PNG":
        if found := png_data_fault(data, header):  # Pillow would fill in missing rows
            raise InputError(Fault(path, found, _COPY))
        if (header.bits, header.mode) == (8, "0"):  # grey; three times faster than Pillow
            return Label(_decode(path, data, cv2.IMREAD_UNCHANGED))
    with opened(path, data, _LABEL_FORMATS) as image:  # OpenCV would replace palette indices by their colours
        mode, lossy = image.mode, header.format == "TIFF" and image.info.get("compression") in _LOSSY_TIFF
        values = np.asarray(image)
        palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3) if mode == "P" else None
    found = ""
    if mode not in _ID_MODES:
        found = f"{_MODES.get(mode, mode)} pixels (expected: {'integers' if mode == 'F' else 'one channel'})"
    elif lossy or header.white_is_zero:
        found = f"{'lossy compression' if lossy else 'inverted grey values'} (expected: PNG)"
    if found:
        raise InputError(Fault(path, found, _EXPORT))
    values = _exact(values, mode, header)
    for value in (values.min(), values.max()):
        if not 0 <= value <= 255:
            raise InputError(Fault(path, f"label value {value} (allowed: class ids and {IGNORE})", _EXPORT))
    ids = values.astype(np.uint8)
    if palette is not None and (found := _palette_fault(used_colours(Label(ids, palette)), palette)):
        raise InputError(Fault(path, found, _EXPORT_GREY))
    return Label(ids, palette)


def _exact(values: np.ndarray, mode: str, header: Header) -> np.ndarray:
    """Return the samples as the file holds them: Pillow scales few bits to 0-255 and mixes up signs."""
    if mode == "L" and header.bits in (2, 4):
        return values // (255 // (2**header.bits - 1))
    if header.format == "TIFF" and mode == "L" and header.signed:
        return values.view(np.int8)
    if header.format == "TIFF" and header.bits == 32 and not header.signed:
        return values.view(np.uint32)
    return values


def used_colours(label: Label) -> dict[int, tuple[int, int, int]]:
    """Return the RGB colour of each id that a palette label holds; empty for a label of grey values."""
    if label.palette is None:
        return {}
    used = np.flatnonzero(value_counts(label.ids)[: len(label.palette)])
    return {int(i): tuple(map(int, label.palette[i])) for i in used}  # type: ignore[misc]  # three channels


def _palette_fault(used: dict[int, tuple[int, int, int]], palette: np.ndarray) -> str:
    """Return the fault of a palette whose colours say that an index is another class id; empty for none."""
    grey = (palette == palette[:, :1]).all()
    known = {tuple(map(int, colour)): c for c, colour in enumerate(PALETTE) if len(set(colour)) > 1}
    for index, colour in used.items():
        if grey and colour[0] != index:
            return f"grey palette that shows index {index} as {colour[0]} (expected: grey values that are class ids)"
        if known.get(colour, index) != index:
            name = CLASSES_WITH_BACKGROUND[known[colour]]
            return f"palette index {index} has the colour of {name} (expected: index {known[colour]})"
    return ""


def value_counts(label: np.ndarray) -> np.ndarray:
    """Return the number of pixels of each value, ``(256,)``, of a label ``uint8 (H, W)``."""
    # OpenCV counts without the interpreter lock and five times faster than NumPy.
    return cv2.calcHist([label], [0], None, [256], [0, 256]).ravel()


def odd_values(label: np.ndarray, classes: int = len(CLASSES)) -> str:
    """Return a sentence on values of a label ``uint8 (H, W)`` that are no class id and not IGNORE; empty for none."""
    odd = [value for value in np.flatnonzero(value_counts(label)) if value >= classes and value != IGNORE]
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


def _decode(path: str | Path, data: bytes, flags: int) -> np.ndarray:
    image = None
    with suppress(cv2.error):
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise unreadable(path)
    return image
