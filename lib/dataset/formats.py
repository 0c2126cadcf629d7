"""Files and formats of images: headers, and the damage and odd kinds that decoders pass over in silence."""

import io
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from lib.errors import Fault, InputError

PIXELS_VARIABLE = "FISHEYE_MAX_PIXELS"
"""Environment variable that replaces the largest number of pixels per image."""
MAX_PIXELS = 100_000_000

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_TIFF = {b"II*\0": "<", b"MM\0*": ">"}
_OTHERS = ("TIFF", "BMP", "WEBP", "JPEG2000", "GIF", "PPM", "AVIF")  # that both Pillow and OpenCV read
_ORIENTATION, _BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 274, 258, 262, 339  # TIFF tags
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")  # a PNG's chunks that no reader may skip
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # bits of a PNG's colour types
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a PNG's colour types
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_BLOCK = 1 << 22  # bytes that are inflated at once
_COPY = "Copy the file again."
_SPECIAL = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}

Image.MAX_IMAGE_PIXELS = None  # headers are checked here, against a limit that can be raised
warnings.filterwarnings("ignore", module=r"PIL\.")  # they name no file


@dataclass(frozen=True)
class Header:
    """Facts in an image's header, read without decoding it.

    Attributes:
        format: Pillow's name of the format, such as PNG.
        size: (width, height).
        bits: bits per sample.
        mode: Pillow's pixel mode; of a PNG its colour type, of a JPEG its number of components.
        signed: TIFF samples are signed integers.
        white_is_zero: TIFF samples are inverted.
    """

    format: str
    size: tuple[int, int]
    bits: int
    mode: str
    signed: bool = False
    white_is_zero: bool = False


def refuse_special(path: str | Path) -> None:
    """Raise InputError for a folder, pipe or device, without opening it: reading one may never end."""
    mode = Path(path).stat().st_mode
    if not stat.S_ISREG(mode):
        kind = _SPECIAL.get(stat.S_IFMT(mode), "a device")
        raise InputError(Fault(path, f"cannot be read: {kind} (expected: a file)", "Correct the path."))


def load(path: str | Path) -> tuple[bytes, Header]:
    """Return the bytes and the header of an image file; a TIFF's bytes without its orientation tag.

    Raises:
        InputError: no plain file, empty, truncated, damaged, several frames, too many pixels, or an unknown format.
    """
    try:
        refuse_special(path)
        # No format needs more bytes than its pixels of four 16-bit channels, but for its metadata.
        if (size := Path(path).stat().st_size) > 8 * max_pixels() + (1 << 26):
            raise InputError(Fault(path, f"{size / 1e9:.1f} GB (expected: an image)", "Correct the path."))
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        found = "not found" if isinstance(error, FileNotFoundError) else f"cannot be read ({reason})"
        raise InputError(Fault(path, found, "Restore the file or correct the path.")) from None
    if not data:
        raise InputError(Fault(path, "empty file", _COPY))
    if data.startswith(_PNG):
        header = _png_header(path, memoryview(data))
    elif data.startswith(_JPEG):
        header = _jpeg_header(path, data)
    else:
        data = _without_orientation(path, data) if data[:4] in _TIFF else data
        header = _other_header(path, data)
    width, height = header.size
    if not 0 < width * height <= max_pixels():
        found = f"{width}×{height} pixels (allowed: 1 to {max_pixels()})"
        raise InputError(Fault(path, found, f"Scale the image down, or set the variable {PIXELS_VARIABLE}."))
    return data, header


def max_pixels() -> int:
    """Return the largest number of pixels of an image: ``MAX_PIXELS``, or the environment variable's."""
    value = os.environ.get(PIXELS_VARIABLE, str(MAX_PIXELS))
    if not value.isdecimal() or len(value) > 18:
        raise InputError(
            Fault(PIXELS_VARIABLE, f"{value[:20]!r} (expected: a number of pixels)", "Correct or unset it.")
        )
    return int(value)


def unreadable(path: str | Path) -> InputError:
    """Return the error of a file that no decoder reads."""
    return InputError(Fault(path, "truncated, or not an image that can be read", "Copy or convert it again."))


@contextmanager
def opened(path: str | Path, data: bytes, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    """Open an image with Pillow; whatever fails in its decoders becomes an InputError."""
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            yield image
    except InputError:
        raise
    except Exception:  # Pillow's decoders raise nearly every type on damaged data
        raise unreadable(path) from None


def png_data_fault(data: bytes, header: Header) -> str:
    """Inflate a PNG's pixels; return the fault if their number or their checksum is wrong, empty for none."""
    inflate, stride = zlib.decompressobj(), 0
    channels, interlaced = _CHANNELS[int(header.mode)], data[28]
    expected = 0
    for x, y, across, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = (
            -(-(n - first) // step) for n, first, step in zip(header.size, (x, y), (across, down), strict=True)
        )
        stride = 1 + (columns * channels * header.bits + 7) // 8
        expected += rows * stride if columns > 0 and rows > 0 else 0
    rest, found = b"".join(_chunks(data, b"IDAT")), 0
    block = max(1, _BLOCK // stride) * stride  # whole rows, which begin with their filter's number
    try:
        while not inflate.eof and found <= expected:
            part = inflate.decompress(rest, block)
            if not part and not inflate.eof:
                break
            if not interlaced and max(part[::stride], default=0) > 4:
                return "damaged PNG (unknown filter)"
            rest, found = inflate.unconsumed_tail, found + len(part)
    except zlib.error:
        return "damaged PNG (broken compressed data)"
    if found != expected or not inflate.eof:
        return f"damaged PNG ({found} bytes of pixels, {expected} by its header)"
    return ""


def _png_header(path: str | Path, data: memoryview) -> Header:
    """Check the chunks (PNG specification, 5.3): length, type, content, checksum of type and content."""
    start, kind, frames, kinds = len(_PNG), b"", 1, []
    try:
        while kind != b"IEND":
            length, kind = struct.unpack_from(">I4s", data, start)
            end = start + 12 + length
            if struct.unpack_from(">I", data, end - 4) != (zlib.crc32(data[start + 4 : end - 4]),):
                raise InputError(Fault(path, f"damaged PNG (wrong checksum at byte {start})", _COPY))
            if not (kind.isalpha() and kind[2:3].isupper()) or (kind[:1].isupper() and kind not in _CRITICAL):
                raise InputError(Fault(path, f"damaged PNG (unknown chunk at byte {start})", _COPY))
            if kind == b"acTL" and length == 8:
                frames = struct.unpack_from(">I", data, start + 8)[0]
            kinds.append(kind)
            start = end
    except struct.error:  # the data end before
        raise InputError(Fault(path, "truncated PNG (no IEND chunk)", _COPY)) from None
    if data[8:16] != b"\0\0\0\x0dIHDR" or kinds.count(b"IHDR") != 1:
        raise unreadable(path)
    width, height, bits, colour, *methods = struct.unpack_from(">IIBBBBB", data, 16)
    if bits not in _DEPTHS.get(colour, ()) or methods not in ([0, 0, 0], [0, 0, 1]):
        raise InputError(Fault(path, f"damaged PNG (colour type {colour} of {bits} bits)", _COPY))
    first, parts = kinds.index(b"IDAT") if b"IDAT" in kinds else 0, kinds.count(b"IDAT")
    if kinds[first : first + parts] != [b"IDAT"] * parts:
        raise InputError(Fault(path, "damaged PNG (other chunks among the pixels)", _COPY))
    if kinds.count(b"PLTE") > 1 or (colour == 3 and b"PLTE" not in kinds[:first]):
        raise InputError(Fault(path, "damaged PNG (palette missing or repeated)", _COPY))
    _refuse_frames(path, frames)
    return Header("PNG", (width, height), bits, str(colour))


def _chunks(data: bytes, wanted: bytes) -> Iterator[memoryview]:
    view, start, kind = memoryview(data), len(_PNG), b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, start)
        if kind == wanted:
            yield view[start + 8 : start + 8 + length]
        start += 12 + length


def _jpeg_header(path: str | Path, data: bytes) -> Header:
    """Find the frame header (ITU-T T.81, B.2.2), and an end marker after the last scan."""
    at, found = 2, "truncated JPEG (no frame header)"
    while at + 10 <= len(data) and data[at] == 0xFF:
        code, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if code == 0xFF:  # fill byte
            at += 1
        elif 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            bits, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
            found = ""
            break
        else:
            at += 2 + length
    # A thumbnail has an end marker of its own.
    if not found and data.find(b"\xff\xda", data.rfind(b"\xff\xd9") + 1) >= 0:
        found = "truncated JPEG (no end marker)"
    if found:
        raise InputError(Fault(path, found, _COPY))
    if bits != 8 or components not in (1, 3):
        found = f"JPEG of {components} components, {bits} bits each (expected: 1 or 3 components, 8 bits)"
        raise InputError(Fault(path, found, "Convert the image to RGB."))  # CMYK has no exact colours in RGB
    return Header("JPEG", (width, height), bits, str(components))


def _other_header(path: str | Path, data: bytes) -> Header:
    with opened(path, data, _OTHERS) as image:
        tags = getattr(image, "tag_v2", {})
        mode, frames = image.mode, getattr(image, "n_frames", 1)
        bits = max(tags.get(_BITS, (16 if mode.startswith("I") else 8,)))
        signed, white_is_zero = 2 in tags.get(_SAMPLE_FORMAT, ()), tags.get(_PHOTOMETRIC) == 0
        header = Header(str(image.format), image.size, bits, mode, signed, white_is_zero)
    if header.format == "TIFF" and data[:4] not in _TIFF:  # BigTIFF, and swapped bytes that Pillow accepts
        raise unreadable(path)
    _refuse_frames(path, frames)
    return header


def _refuse_frames(path: str | Path, frames: int) -> None:
    if frames > 1:
        raise InputError(Fault(path, f"{frames} frames (expected: one)", "Store one image per file."))


def _without_orientation(path: str | Path, data: bytes) -> bytes:
    """Return a TIFF's bytes with the orientation tag at its default; readers would turn the image by it."""
    order = _TIFF[data[:4]]
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (number,) = struct.unpack_from(f"{order}H", data, start)
        struct.unpack_from(f"{order}I", data, start + 2 + 12 * number)  # Pillow reads a cut directory as a short one
    except struct.error:
        raise unreadable(path) from None
    for entry in range(start + 2, start + 2 + 12 * number, 12):
        if struct.unpack_from(f"{order}H", data, entry) == (_ORIENTATION,):
            upright = struct.pack(f"{order}HHIHH", _ORIENTATION, 3, 1, 1, 0)  # one 16-bit number: 1
            data = data[:entry] + upright + data[entry + 12 :]
    return data
