"""Bad and odd labels: each is refused in plain words or read exactly right."""

import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from lib.dataset import image_files
from lib.dataset.classes import IGNORE, PALETTE
from tests.faults.cases import Cases
from tests.faults.image_builder import (
    COLOURS,
    HEIGHT,
    LABEL,
    WIDTH,
    adam7,
    chunk,
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


def label_is(name: str, content: bytes, expected: np.ndarray, suffix: str = "png") -> None:
    @CASES.register(f"label: {name}")
    def exact(folder: Path) -> None:
        np.testing.assert_array_equal(image_files.read_label(write(folder / f"label.{suffix}", content)), expected)


def label_refused(name: str, content: bytes, naming: str, suffix: str = "png") -> None:
    @CASES.register(f"label: {name}")
    def refuse(folder: Path) -> None:
        refused(image_files.read_label, write(folder / f"label.{suffix}", content), naming=naming)


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
label_refused("GIF of two frames", two_frames(LABEL, ids(1), "GIF"), "2 frames", "gif")
label_refused("TIFF of two frames", two_frames(LABEL, ids(1), "TIFF"), "2 frames", "tif")
label_refused("animated PNG", two_frames(LABEL, ids(1), "PNG"), "2 frames")

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
