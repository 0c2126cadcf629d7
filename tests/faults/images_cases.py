"""Bad and odd images, and limits of their size: each is refused in plain words or read exactly right."""

import os
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from lib.dataset import image_files, layout
from tests.faults.cases import Cases
from tests.faults.image_builder import (
    COLOURS,
    HEIGHT,
    LABEL,
    PHOTO,
    SIGNATURE,
    WIDTH,
    adam7,
    check_image,
    chunk,
    data_set,
    ids,
    palette_chunk,
    photo,
    png,
    saved,
    tiff,
    two_frames,
    write,
)
from tests.faults.outcome import refused

CASES = Cases()


def image_is(name: str, content: bytes, expected: np.ndarray, suffix: str = "png", tolerance: int = 0) -> None:
    @CASES.register(f"image: {name}")
    def exact(folder: Path) -> None:
        path = write(folder / f"image.{suffix}", content)
        read = image_files.read_image(path)
        assert check_image(path).size == read.shape[1::-1] == expected.shape[1::-1]
        assert np.abs(read.astype(int) - expected).mean() <= tolerance


def image_refused(name: str, content: bytes, naming: str, suffix: str = "png") -> None:
    @CASES.register(f"image: {name}")
    def refuse(folder: Path) -> None:
        refused(check_image, write(folder / f"image.{suffix}", content), naming=naming)


def huge(width: int, height: int) -> bytes:
    return png(np.zeros((1, 1), np.uint8), size=(width, height))


def jpeg_header(width: int, height: int, components: int = 3, bits: int = 8) -> bytes:
    frame = struct.pack(">BHHB", bits, height, width, components) + b"\1\x11\0" * components
    return b"\xff\xd8\xff\xc0" + struct.pack(">H", 2 + len(frame)) + frame + b"\xff\xda\0\2abc\xff\xd9"


LARGE = photo(0, 160, 120)
JPEG = saved(LARGE, "JPEG", quality=90)
SCAN = JPEG.index(b"\xff\xda") + 14
for turn in range(1, 9):
    exif = Image.Exif()
    exif[0x0112] = turn
    for image_format, options, tolerance in (
        ("JPEG", dict(quality=98), 4),
        ("PNG", {}, 0),
        ("TIFF", {}, 0),
        ("WEBP", dict(lossless=True), 0),
    ):
        content = saved(LARGE, image_format, exif=exif, **options)
        image_is(f"{image_format} of orientation {turn}", content, LARGE, image_format.lower(), tolerance)
image_is("RGBA, half transparent", png(np.dstack([PHOTO, ids()]), 8, 6), PHOTO)
image_is("RGBA of 16 bits", png(np.dstack([PHOTO, ids()]).astype(np.uint16) * 257, 16, 6), PHOTO)
image_is("grey of 16 bits", png(PHOTO[..., 0].astype(np.uint16) * 257, 16), cv2.merge([PHOTO[..., 0]] * 3))
image_is("interlaced", png(PHOTO[..., 0], interlaced=1, data=adam7(PHOTO[..., 0])), cv2.merge([PHOTO[..., 0]] * 3))
image_is("palette", png(LABEL, 8, 3, before=palette_chunk(COLOURS)), np.array(COLOURS, np.uint8)[LABEL])
image_is("progressive JPEG", saved(LARGE, "JPEG", quality=98, progressive=True), LARGE, "jpg", 4)
image_is("JPEG named .PNG", saved(LARGE, "JPEG", quality=98), LARGE, "PNG", 4)
image_is("bytes behind the end of a PNG", png(PHOTO, 8, 2) + bytes(99), PHOTO)

image_refused("100 000 × 100 000 PNG", huge(100_000, 100_000), "100000×100000 pixels")
image_refused("32 000 × 32 000 PNG", huge(32_000, 32_000), "FISHEYE_MAX_PIXELS")
image_refused("width of 2**31 - 1", huge(2**31 - 1, 1), "pixels")
image_refused("width 0", huge(0, 12), "0×12")
image_refused("65 000 × 65 000 JPEG", jpeg_header(65_000, 65_000), "65000×65000 pixels", "jpg")
image_refused("height 0 JPEG", jpeg_header(16, 0), "16×0", "jpg")
image_refused("100 000 × 100 000 TIFF", tiff(b"\0", size=(100_000, 100_000)), "100000×100000 pixels", "tif")
image_refused("50 000 × 50 000 GIF", b"GIF89a" + struct.pack("<HH", 50_000, 50_000) + b"\0\0\0;", "", "gif")
BMP = saved(PHOTO, "BMP")
image_refused("60 000 × 60 000 BMP", BMP[:18] + struct.pack("<ii", 60_000, 60_000) + BMP[26:], "60000×60000", "bmp")
image_refused("PPM of 10**18 pixels", b"P6 1000000000 1000000000 255\n", "pixels", "ppm")
image_refused("10 000 × 9 000 header, small data", huge(10_000, 9_000), "bytes of pixels")
image_refused("small header, 100 MB of data", png(PHOTO, 8, 2, data=zlib.compress(bytes(10**8))), "bytes of pixels")
image_refused("CMYK JPEG", saved(LARGE, "JPEG", "CMYK"), "4 components", "jpg")
image_refused("JPEG of 12 bits", jpeg_header(16, 12, 3, 12), "12 bits", "jpg")
image_refused("JPEG of 2 components", jpeg_header(16, 12, 2), "2 components", "jpg")
image_refused("CMYK TIFF", saved(LARGE, "TIFF", "CMYK"), "CMYK", "tif")
image_refused(
    "floating-point TIFF", tiff(np.ones((HEIGHT, WIDTH), "<f4").tobytes(), 32, sample_format=3), "floating", "tif"
)
image_refused("32-bit TIFF", tiff(np.ones((HEIGHT, WIDTH), "<i4").tobytes(), 32, sample_format=2), "expected", "tif")
image_refused("animated PNG", two_frames(PHOTO, photo(1), "PNG"), "2 frames")
image_refused("animated WebP", two_frames(PHOTO, photo(1), "WEBP"), "2 frames", "webp")
image_refused("TIFF of two frames", two_frames(PHOTO, photo(1), "TIFF"), "2 frames", "tif")
image_refused("PNG of 3 bits", png(LABEL, 8, 0).replace(struct.pack(">BB", 8, 0), b"\3\0", 1), "damaged PNG")
image_refused("PNG of colour type 5", png(LABEL, 8, 5), "colour type 5")
PIXELS = zlib.compress(b"".join(b"\0" + row.tobytes() for row in LABEL))
PARTS = chunk(b"IDAT", PIXELS[:50]), chunk(b"IDAT", PIXELS[50:])
IHDR = png(LABEL)[:33]
image_is("pixels in two chunks", IHDR + b"".join(PARTS) + png(LABEL)[-12:], cv2.merge([LABEL] * 3))
image_refused(
    "pixels in chunks apart", IHDR + chunk(b"tEXt", b"a\0b").join(PARTS) + png(LABEL)[-12:], "among the pixels"
)
image_refused("palette PNG without a palette", png(LABEL, 8, 3), "palette missing")
image_refused("PNG of an unknown critical chunk", png(LABEL, before=chunk(b"ABCD", b"")), "unknown chunk")
image_refused("PNG without IHDR", SIGNATURE + chunk(b"IEND", b""), "not an image")
image_refused("PNG with a chunk longer than the file", SIGNATURE + b"\x7f\xff\xff\xffIHDR", "truncated")
image_refused("PNG with an unknown filter", png(LABEL, data=zlib.compress(b"\7" * HEIGHT * (WIDTH + 1))), "filter")
image_refused("JPEG with zeros inside", JPEG[: SCAN + 300] + bytes(600) + JPEG[SCAN + 900 :], "damaged inside", "jpg")
image_refused("JPEG with a part cut out", JPEG[: SCAN + 300] + JPEG[SCAN + 700 :], "damaged inside", "jpg")
image_refused("JPEG cut, with an end marker", JPEG[: SCAN + 400] + b"\xff\xd9", "damaged inside", "jpg")
image_refused("JPEG with bytes before its end marker", JPEG[:-2] + b"\0" * 40 + b"\xff\xd9", "damaged inside", "jpg")
image_refused(
    "JPEG with a marker inside", JPEG[: SCAN + 300] + b"\xff\xc4" + JPEG[SCAN + 302 :], "damaged inside", "jpg"
)
image_refused(
    "JPEG with a doubled height",
    JPEG.replace(struct.pack(">HH", 120, 160), struct.pack(">HH", 240, 160), 1),
    "damaged",
    "jpg",
)
image_refused("JPEG without an end", JPEG[:-2], "truncated", "jpg")
image_refused("JPEG of a start marker alone", b"\xff\xd8\xff\xd9", "no frame header", "jpg")
image_refused("JPEG without quantization tables", JPEG.replace(b"\xff\xdb", b"\xff\xfe"), "", "jpg")
image_is("JPEG without its standard Huffman tables", JPEG.replace(b"\xff\xc4", b"\xff\xfe"), LARGE, "jpg", 6)
image_refused("SVG", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image", "svg")
image_refused("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image", "png")


# Limit of pixels


def with_limit(value: str, work: Callable[[], None]) -> None:
    os.environ["FISHEYE_MAX_PIXELS"] = value
    try:
        work()
    finally:
        del os.environ["FISHEYE_MAX_PIXELS"]


for name, value in (
    ("text", "many"),
    ("negative", "-1"),
    ("empty", ""),
    ("of 400 digits", "9" * 400),
    ("float", "1e9"),
):

    @CASES.register(f"limit of pixels: {name}")
    def limit(folder: Path, value=value) -> None:
        with_limit(value, partial(refused, layout.check, data_set(folder), naming="FISHEYE_MAX_PIXELS: "))


@CASES.register("limit of pixels: lowered and raised")
def limit_works(folder: Path) -> None:
    path = write(folder / "a.png", png(LABEL))
    with_limit(str(WIDTH * HEIGHT - 1), partial(refused, image_files.read_image, path, naming="allowed: 1 to 191"))
    with_limit(str(WIDTH * HEIGHT), partial(image_files.read_image, path))
