"""Bad and odd images, labels, tables and data sets; each case is refused in plain words or read exactly right."""

import csv
import os
import socket
import struct
import unicodedata
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from lib.dataset import image_files, layout
from lib.dataset.classes import IGNORE, PALETTE
from lib.submission.score import score_submission
from tests.faults.image_builder import (
    HEIGHT,
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
    write,
)
from tests.faults.outcome import refused

CASES: dict[str, Callable[[Path], None]] = {}


def case(name: str) -> Callable:
    """Register a case, a function of an empty folder."""

    def register(function: Callable[[Path], None]) -> Callable[[Path], None]:
        assert name not in CASES
        CASES[name] = function
        return function

    return register


def label_is(name: str, content: bytes, expected: np.ndarray, suffix: str = "png") -> None:
    @case(f"label: {name}")
    def exact(folder: Path) -> None:
        np.testing.assert_array_equal(image_files.read_label(write(folder / f"label.{suffix}", content)), expected)


def label_refused(name: str, content: bytes, naming: str, suffix: str = "png") -> None:
    @case(f"label: {name}")
    def refuse(folder: Path) -> None:
        refused(image_files.read_label, write(folder / f"label.{suffix}", content), naming=naming)


def image_is(name: str, content: bytes, expected: np.ndarray, suffix: str = "png", tolerance: int = 0) -> None:
    @case(f"image: {name}")
    def exact(folder: Path) -> None:
        path = write(folder / f"image.{suffix}", content)
        read = image_files.read_image(path)
        assert check_image(path).size == read.shape[1::-1] == expected.shape[1::-1]
        assert np.abs(read.astype(int) - expected).mean() <= tolerance


def image_refused(name: str, content: bytes, naming: str, suffix: str = "png") -> None:
    @case(f"image: {name}")
    def refuse(folder: Path) -> None:
        refused(check_image, write(folder / f"image.{suffix}", content), naming=naming)


# Labels


LABEL, PHOTO = ids(), photo()
COLOURS = [(7 * i, 255 - i, 3 * i) for i in range(12)]

for bits, most in ((1, 2), (2, 4), (4, 12), (8, 12), (16, 12)):
    label_is(f"grey PNG of {bits} bits", png(ids(1, most=most), bits), ids(1, most=most))
label_is("1-bit TIFF", saved(ids(2, most=2).astype(bool), "TIFF"), ids(2, most=2), "tif")
label_is("2-bit PNG of 0 and 3", png(ids(1, most=2) * 3, 2), ids(1, most=2) * 3)
label_is("4-bit PNG of 0 and 15", png(ids(1, most=2) * 15, 4), ids(1, most=2) * 15)
label_is(
    "4-bit TIFF",
    tiff(b"".join(bytes(r[::2] << 4 | r[1::2]) for r in LABEL), 4),
    LABEL,
    "tif",
)
label_is("8-bit TIFF", tiff(LABEL.tobytes()), LABEL, "tif")
label_is("16-bit TIFF", tiff(LABEL.astype("<u2").tobytes(), 16), LABEL, "tif")
label_is("signed 16-bit TIFF", tiff(LABEL.astype("<i2").tobytes(), 16, sample_format=2), LABEL, "tif")
label_is("32-bit TIFF", tiff(LABEL.astype("<i4").tobytes(), 32, sample_format=2), LABEL, "tif")
label_is("unsigned 32-bit TIFF", tiff(LABEL.astype("<u4").tobytes(), 32), LABEL, "tif")
label_is("interlaced PNG", png(LABEL, interlaced=1, data=adam7(LABEL)), LABEL)
label_is("palette PNG", png(LABEL, 8, 3, before=palette_chunk(COLOURS)), LABEL)
label_is("4-bit palette PNG", png(LABEL, 4, 3, before=palette_chunk(COLOURS)), LABEL)
label_is(
    "grey palette that is the identity", png(LABEL, 8, 3, before=palette_chunk([(i,) * 3 for i in range(12)])), LABEL
)
label_is("palette of the class colours", png(LABEL, 8, 3, before=palette_chunk(PALETTE)), LABEL)
UNLABELLED = np.where(LABEL == 3, IGNORE, LABEL).astype(np.uint8)
label_is("255 beyond a palette of 12 colours", png(UNLABELLED, 8, 3, before=palette_chunk(COLOURS)), UNLABELLED)
label_is(
    "palette with transparency",
    png(LABEL, 8, 3, before=palette_chunk(COLOURS) + chunk(b"tRNS", bytes(12))),
    LABEL,
)
label_is("grey with a transparent value", png(LABEL, before=chunk(b"tRNS", b"\0\3")), LABEL)
label_is("BMP", saved(LABEL, "BMP"), LABEL, "bmp")
label_is("GIF", saved(LABEL, "GIF"), LABEL, "gif")
for turn in range(1, 9):
    label_is(f"TIFF of orientation {turn}", tiff(LABEL.tobytes(), orientation=turn), LABEL, "tif")
    exif = Image.Exif()
    exif[0x0112] = turn
    label_is(f"PNG of orientation {turn}", saved(LABEL, "PNG", exif=exif), LABEL)

label_refused(
    "grey palette in reverse",
    png(LABEL, 8, 3, before=palette_chunk([(11 - i,) * 3 for i in range(12)])),
    "grey palette",
)
label_refused(
    "grey palette of steps", png(LABEL, 8, 3, before=palette_chunk([(20 * i,) * 3 for i in range(12)])), "grey palette"
)
label_refused("palette all black", png(LABEL, 8, 3, before=palette_chunk([(0, 0, 0)] * 12)), "grey palette")
label_refused("class colours in reverse", png(LABEL, 8, 3, before=palette_chunk(PALETTE[11::-1])), "has the colour of")
label_refused(
    "class colours sorted by brightness", png(LABEL, 4, 3, before=palette_chunk(sorted(PALETTE[:12].tolist()))), "index"
)
label_refused(
    "signed 32 bits with -250", tiff((LABEL.astype("<i4") - 250).tobytes(), 32, sample_format=2), "-250", "tif"
)
label_refused(
    "signed 16 bits with -1", tiff((LABEL.astype("<i2") - 1).tobytes(), 16, sample_format=2), "value -1", "tif"
)
label_refused("signed 8 bits with -1", tiff((LABEL.astype("i1") - 1).tobytes(), 8, sample_format=2), "value -1", "tif")
label_refused("32 bits with 70000", tiff((LABEL.astype("<i4") * 7000).tobytes(), 32, sample_format=2), "77000", "tif")
label_refused("unsigned 32 bits with 2**32 - 1", tiff((LABEL.astype("<u4") - 1).tobytes(), 32), "4294967295", "tif")
label_refused("16 bits with 256", png(LABEL.astype(np.uint16) + 256, 16), "label value 256")
label_refused("floating-point", tiff(LABEL.astype("<f4").tobytes(), 32, sample_format=3), "floating-point", "tif")
label_refused("inverted 8-bit TIFF", tiff(LABEL.tobytes(), photometric=0), "inverted", "tif")
label_refused("inverted 16-bit TIFF", tiff(LABEL.astype("<u2").tobytes(), 16, photometric=0), "inverted", "tif")
label_refused("JPEG inside a TIFF", saved(LABEL, "TIFF", compression="jpeg"), "lossy", "tif")
label_refused("12-bit TIFF of half its bytes", tiff(bytes(90), 12), "", "tif")
for name, channels, colour in (("grey and alpha", 2, 4), ("RGB", 3, 2), ("RGBA", 4, 6)):
    for bits in (8, 16):
        content = png(np.stack([LABEL] * channels, axis=-1), bits, colour)
        label_refused(f"{name} of {bits} bits", content, "one channel")
for image_format, suffix in (("JPEG", "jpg"), ("WEBP", "webp"), ("JPEG2000", "jp2"), ("AVIF", "avif")):
    label_refused(image_format, saved(photo(0, 64, 48), image_format), "blurs class ids", suffix)
    label_refused(f"{image_format} named .png", saved(photo(0, 64, 48), image_format), "blurs class ids")
label_refused("PGM of 12 grey values", b"P5 16 12 11\n" + LABEL.tobytes(), "expected: PNG", "pgm")
label_refused(
    "GIF of two frames", saved(LABEL, "GIF", save_all=True, append_images=[Image.fromarray(ids(1))]), "2 frames", "gif"
)
label_refused(
    "TIFF of two frames",
    saved(LABEL, "TIFF", save_all=True, append_images=[Image.fromarray(ids(1))]),
    "2 frames",
    "tif",
)
label_refused("animated PNG", saved(LABEL, "PNG", save_all=True, append_images=[Image.fromarray(ids(1))]), "2 frames")

PALETTED = dict(colour=3, before=palette_chunk(COLOURS))
for name, options in {
    "grey": {},
    "palette": PALETTED,
    "4-bit palette": dict(bits=4, **PALETTED),
    "16-bit": dict(bits=16),
    "2-bit": dict(bits=2),
    "1-bit": dict(bits=1),
}.items():
    label_refused(f"half the rows, {name}", png(LABEL, rows=HEIGHT // 2, **options), "bytes of pixels")
    label_refused(f"a row too many, {name}", png(LABEL, size=(WIDTH, HEIGHT - 1), **options), "bytes of pixels")
    inflated = zlib.compress(bytes(4000))
    label_refused(f"pixels of another image, {name}", png(LABEL, data=inflated, **options), "bytes of pixels")
    whole = zlib.compress(png(LABEL))
    label_refused(
        f"broken compression, {name}", png(LABEL, data=whole[:40] + bytes(8) + whole[48:], **options), "damaged"
    )
label_refused(
    "wrong checksum of the pixels",
    png(LABEL, data=zlib.compress(bytes(HEIGHT * (WIDTH + 1)))[:-4] + b"abcd"),
    "damaged",
)
label_refused("interlaced in the header alone", png(LABEL, interlaced=1), "damaged")
label_refused("no pixels", png(LABEL, data=b""), "bytes of pixels")
label_refused("PNG cut in half", png(LABEL)[:80], "truncated")
label_refused("BigTIFF", b"II+\0\x08\0\0\0" + bytes(99), "not an image", "tif")
label_refused("TIFF cut", tiff(LABEL.tobytes())[:-40], "", "tif")
label_refused("BMP cut", saved(LABEL, "BMP")[:-40], "", "bmp")
label_refused(
    "deflated TIFF of damaged data",
    saved(ids(0, 64, 64), "TIFF", compression="tiff_adobe_deflate").replace(ids(0, 64, 64).tobytes()[:4], b"abcd")[
        :600
    ],
    "",
    "tif",
)
label_refused("text", b"not an image", "not an image")
label_refused("empty", b"", "empty")
label_refused("raw array of NumPy", b"\x93NUMPY\x01\x00v\x00{'descr': '|u1'}" + LABEL.tobytes(), "not an image")


# Images


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
image_refused("animated PNG", saved(PHOTO, "PNG", save_all=True, append_images=[Image.fromarray(photo(1))]), "2 frames")
image_refused(
    "animated WebP", saved(PHOTO, "WEBP", save_all=True, append_images=[Image.fromarray(photo(1))]), "2 frames", "webp"
)
image_refused(
    "TIFF of two frames",
    saved(PHOTO, "TIFF", save_all=True, append_images=[Image.fromarray(photo(1))]),
    "2 frames",
    "tif",
)
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


# What is no plain file


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

        @case(f"{role}: {kind}")
        def special(folder: Path, make=make, read=read) -> None:
            make(folder / "x.png")
            refused(read, folder / "x.png", naming="x.png")

    if kind == "a file of 1 TB":  # a table has no limit
        continue

    @case(f"table: {kind}")
    def special_table(folder: Path, make=make) -> None:
        data_set(folder)
        (folder / "train_target.csv").unlink()
        make(folder / "train_target.csv")
        refused(layout.check, folder, naming="train_target.csv")


# Data sets


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def cell(folder: Path, split: str, column: int, value: str) -> None:
    """Replace a cell of the first row of a split's table."""
    header, first, *others = rows_of(folder / f"{split}.csv")
    first[column] = value
    layout.write_table(folder / f"{split}.csv", header, [first, *others])


for name, value, naming in (
    ("..", "..", "plain file name"),
    (".", ".", "plain file name"),
    ("in a folder", "a/b", "plain file name"),
    ("absolute", "/a", "plain file name"),
    ("hidden", ".a", "plain file name"),
    ("of a Mac's companion file", "._a", "plain file name"),
    ("of 300 characters", "a" * 300, "plain file name"),
    ("of 252 bytes", "é" * 126, "plain file name"),
    ("with a newline", "a\nb", "control character"),
    ("with a carriage return", "a\rb", "blank cell"),
    ("with a tab", "a\tb", "control character"),
    ("with an escape sequence", "\x1b[2J", "control character"),
    ("blank", "", "blank cell"),
    ("twice", "train_target_1", "in 2 rows"),
):

    @case(f"id {name}")
    def odd_id(folder: Path, value=value, naming=naming) -> None:
        cell(data_set(folder), "train_target", 0, value)
        refused(layout.check, folder, naming=naming)


for name, value, naming in (
    ("/dev/zero", "/dev/zero", "a device"),
    ("/dev/stdin", "/dev/stdin", ""),
    ("the folder", ".", "a folder"),
    ("the table itself", "train_target.csv", "not an image"),
    ("with a newline", "image/\n.png", "control character"),
    ("of 5000 characters", "a" * 5000, "cannot be read"),
    ("of a name of 300 characters", "a" * 300 + ".png", "cannot be read"),
    ("in a file", "train_target.csv/a.png", "cannot be read"),
    ("missing", "image/none.png", "not found"),
    ("blank", "", "blank cell"),
    ("with blanks around", " image/train_target_0.png ", "not found"),
    ("with backslashes", ".\\image\\train_target_0.png", "not found"),
    ("with a home folder", "~/a.png", "not found"),
    ("an address", "https://example.org/a.png", "not found"),
):

    @case(f"path {name}")
    def odd_path(folder: Path, value=value, naming=naming) -> None:
        cell(data_set(folder), "train_target", 1, value)
        refused(layout.check, folder, naming=naming)


for name, content, naming in (
    ("empty", b"", "No columns"),
    ("of a header alone", b"id,img_path\n", "no rows"),
    ("with another column", b"id,file\na,b\n", "img_path"),
    ("with semicolons", b"id;img_path\na;b\n", "id;img_path"),
    ("with tabs", b"id\timg_path\na\tb\n", "only the columns"),
    ("in UTF-16", "id,img_path\na,b\n".encode("utf-16"), "train_target.csv"),
    ("with a NUL in a cell", b"id,img_path\na\0b,image/train_target_0.png\n", "train_target.csv"),
    ("with a NUL in a path", b"id,img_path\na,image/\0.png\n", ""),
    ("of NULs", bytes(100), "train_target.csv"),
    ("with an open quote", b'id,img_path\n"a,b\n', "train_target.csv"),
    ("with a longer row", b"id,img_path\na,b\nc,d,e\n", "train_target.csv"),
    ("with a shorter row", b"id,img_path\na\n", "blank cell"),
    ("that is a PNG", png(LABEL), "train_target.csv"),
    ("in Latin-1", "id,img_path\né,b\n".encode("latin-1"), "train_target.csv"),
    ("with upper-case columns", b"ID,IMG_PATH\na,b\n", "only the columns"),
):

    @case(f"table {name}")
    def odd_table(folder: Path, content=content, naming=naming) -> None:
        write(data_set(folder) / "train_target.csv", content)
        refused(layout.check, folder, naming=naming)


def replaced(name: str, content: bytes, naming: str) -> None:
    """Register a set whose first training label has this content."""

    @case(f"set: {name}")
    def set_refused(folder: Path) -> None:
        write(data_set(folder) / "gt" / "train_source_0.png", content)
        refused(layout.check, folder, naming=naming)


replaced("a label of another size", png(ids(0, WIDTH, HEIGHT - 1)), "16×11, but its image train_source_0.png is 16×12")
replaced("a label turned by 90 degrees", png(LABEL.T.copy()), "12×16, but its image")
replaced("a label with value 12", png(LABEL + 1), "label value 12")
replaced("a label of 0 and 255, of a mask", png(ids(0, most=2) * 200), "label value 200")
replaced("a label that is its image", png(PHOTO, 8, 2), "RGB pixels")


def palette_set(folder: Path, first: list, second: list, labels: tuple[np.ndarray, np.ndarray]) -> Path:
    data_set(folder)
    for i, (colours, label) in enumerate(zip((first, second), labels, strict=True)):
        write(folder / "gt" / f"train_source_{i}.png", png(label, 8, 3, before=palette_chunk(colours)))
    return folder


@case("set: palettes in the order of first appearance")
def palettes_differ(folder: Path) -> None:
    palette_set(folder, COLOURS, COLOURS[::-1], (ids(0), ids(1)))
    refused(layout.check, folder, naming="train_source_1.png: palette colour")


@case("set: palettes that give a colour two ids")
def colours_move(folder: Path) -> None:
    labels = np.zeros((HEIGHT, WIDTH), np.uint8), np.ones((HEIGHT, WIDTH), np.uint8)
    palette_set(folder, [COLOURS[5], COLOURS[6]], [COLOURS[6], COLOURS[5]], labels)
    refused(layout.check, folder, naming="at index 0 in train_source_0.png")


@case("set: one palette for all is fine")
def one_palette(folder: Path) -> None:
    report = layout.check(palette_set(folder, COLOURS, COLOURS, (ids(0), ids(1))))
    assert "no faults" in str(report)


@case("set: training labels of 255 alone")
def unlabelled_set(folder: Path) -> None:
    data_set(folder)
    for i in range(2):
        write(folder / "gt" / f"train_source_{i}.png", png(np.full((HEIGHT, WIDTH), IGNORE)))
    refused(layout.check, folder, naming="every pixel of every label is 255")


def warned(name: str, change: Callable[[Path], object], naming: str) -> None:
    """Register a set that is sound, but of which the report has to say ``naming``."""

    @case(f"set: {name}")
    def warn(folder: Path) -> None:
        change(data_set(folder))
        assert naming in str(layout.check(folder)), str(layout.check(folder))


def copy(folder: Path, source: str, to: str) -> None:
    write(folder / to, (folder / source).read_bytes())


def labels(folder: Path, *values: int) -> None:
    for i, value in enumerate(values):
        write(folder / "gt" / f"train_source_{i}.png", png(np.full((HEIGHT, WIDTH), value)))


warned("a label of 255 alone", lambda folder: labels(folder, 255), "labels that hold 255 alone: train_source_0")
warned("labels of one class", lambda folder: labels(folder, 0, 0), "all labels hold Road alone")
warned("a class that never occurs", lambda folder: labels(folder, 0, 1), "never occur: Construction, Fence")
warned("class shares", lambda folder: labels(folder, 0, 255), "Road 0.500")
warned(
    "a validation image among the training images",
    lambda folder: copy(folder, "image/train_source_0.png", "image/val_source_1.png"),
    "training images are among the validation's: val_source_1",
)
warned(
    "an image twice",
    lambda folder: copy(folder, "image/test_0.png", "image/test_1.png"),
    "test: images that occur twice: test_1 = test_0",
)
warned(
    "validation labels of 255 alone",
    lambda folder: [write(folder / f"gt/val_source_{i}.png", png(np.full((HEIGHT, WIDTH), 255))) for i in range(2)],
    "val_source: all labels hold 255 alone",
)


def deep(folder: Path, factor: int, images: int = 2) -> Path:
    """Replace target images by 16-bit ones."""
    data_set(folder)
    for i in range(images):
        samples = photo(i).astype(np.uint16) * factor
        write(folder / "image" / f"train_target_{i}.png", png(samples, 16, 2))
    return folder


for name, factor in (("8", 1), ("10", 4), ("12", 16), ("14", 64)):

    @case(f"set: values of {name} bits in 16-bit images")
    def dark(folder: Path, factor=factor) -> None:
        refused(layout.check, deep(folder, factor), naming="no image of train_target has a value above")


@case("set: values of 12 bits in opaque 16-bit images")
def dark_and_opaque(folder: Path) -> None:
    deep(folder, 16)
    for i in range(2):
        samples = np.dstack([photo(i).astype(np.uint16) * 16, np.full((HEIGHT, WIDTH), 65535, np.uint16)])
        write(folder / "image" / f"train_target_{i}.png", png(samples, 16, 6))
    refused(layout.check, folder, naming="no image of train_target has a value above")


@case("set: 16-bit images of the full range are fine")
def bright(folder: Path) -> None:
    assert "no faults" in str(layout.check(deep(folder, 257)))


@case("set: a Mac's decomposed names, composed ones in the table")
def decomposed(folder: Path) -> None:
    data_set(folder)
    name = "Straße é/Bild ü.png"
    write(folder / unicodedata.normalize("NFD", name), (folder / "image" / "train_target_0.png").read_bytes())
    cell(folder, "train_target", 1, unicodedata.normalize("NFC", name))
    assert "no faults" in str(layout.check(folder))
    assert layout.read_split(folder, "train_target")[0].image.is_file()


@case("set: composed names, decomposed ones in the table")
def composed(folder: Path) -> None:
    data_set(folder)
    write(folder / unicodedata.normalize("NFC", "é.png"), (folder / "image" / "train_target_0.png").read_bytes())
    cell(folder, "train_target", 1, unicodedata.normalize("NFD", "é.png"))
    assert "no faults" in str(layout.check(folder))


@case("set: absolute paths are fine")
def absolute(folder: Path) -> None:
    data_set(folder)
    cell(folder, "train_target", 1, str(folder / "image" / "train_target_0.png"))
    assert "no faults" in str(layout.check(folder))


@case("set: a Mac's companion files beside labels")
def companions(folder: Path) -> None:
    row = np.zeros((1, 4), np.uint8)
    image_files.write_png(folder / "labels" / "A.png", row)
    write(folder / "labels" / "._A.png", b"\0\5\x16\7" + bytes(100))
    rows = [(i, "1 4" if i.endswith("_0") else "-1") for i in layout.row_ids(["A"])]
    layout.write_table(folder / "submission.csv", ("id", "mask_rle"), rows)
    assert score_submission(folder / "submission.csv", folder / "labels", (4, 1))["Road"] == 1


@case("set: a missing row of the sample submission")
def sample_row(folder: Path) -> None:
    path = data_set(folder) / layout.SAMPLE_SUBMISSION
    layout.write_table(path, ("id", "mask_rle"), rows_of(path)[2:])
    refused(layout.check, folder, naming="no row test_0_class_0")


for name, value in (
    ("text", "many"),
    ("negative", "-1"),
    ("empty", ""),
    ("of 400 digits", "9" * 400),
    ("float", "1e9"),
):

    @case(f"limit of pixels: {name}")
    def limit(folder: Path, value=value) -> None:
        with_limit(value, partial(refused, layout.check, data_set(folder), naming="FISHEYE_MAX_PIXELS: "))


def with_limit(value: str, work: Callable[[], None]) -> None:
    os.environ["FISHEYE_MAX_PIXELS"] = value
    try:
        work()
    finally:
        del os.environ["FISHEYE_MAX_PIXELS"]


@case("limit of pixels: lowered and raised")
def limit_works(folder: Path) -> None:
    path = write(folder / "a.png", png(LABEL))
    with_limit(str(WIDTH * HEIGHT - 1), partial(refused, image_files.read_image, path, naming="allowed: 1 to 191"))
    with_limit(str(WIDTH * HEIGHT), partial(image_files.read_image, path))
