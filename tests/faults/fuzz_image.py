"""Random damage of PNG and JPEG headers: refused, or read as another decoder reads it."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from lib.dataset import image_files
from lib.dataset.formats import max_pixels
from lib.errors import InputError
from tests.faults.image_builder import adam7, check_image, chunk, ids, palette_chunk, photo, png, saved

_COLOURS = [(7 * i, 255 - i, 3 * i) for i in range(12)]
_WHOLE = (
    png(ids()),
    png(ids(most=4), 2),
    png(ids(), 4, 3, before=palette_chunk(_COLOURS)),
    png(ids(), 8, 3, before=palette_chunk(_COLOURS)),
    png(ids(), 16),
    png(ids(), interlaced=1, data=adam7(ids())),
    png(photo(), 8, 2),
    png(np.dstack([photo(), ids()]), 16, 6),
    png(ids(), before=chunk(b"gAMA", b"\0\0\xb1\x8f") + chunk(b"sBIT", b"\4") + chunk(b"tEXt", b"a\0b")),
    saved(photo(0, 48, 32), "JPEG"),
    saved(photo(0, 48, 32), "JPEG", progressive=True),
    saved(photo(0, 48, 32), "JPEG", "CMYK"),
    saved(photo(0, 48, 32)[..., 0], "JPEG", restart_marker_rows=1),
)
_NUMBERS = (0, 1, 2, 3, 7, 8, 15, 16, 17, 255, 256, 65535, 100_000, 2**31 - 1, 2**31, 2**32 - 1)


def one(seed: int, folder: Path) -> bool:
    """Damage an image at random, feed it to the product, and return whether it was accepted as image or label.

    Raises:
        AssertionError: what was accepted is too large, has another size than its header says, or other ids than
            Pillow finds.
    """
    rng = np.random.default_rng(seed)
    content = bytearray(_WHOLE[rng.integers(len(_WHOLE))])
    for _ in range(rng.integers(1, 4)):
        _damage(content, rng)
    if content.startswith(b"\x89PNG") and rng.random() < 0.8:
        content = _with_checksums(content)
    path = folder / "image.png"
    path.write_bytes(content)
    return _image_accepted(path) | _label_accepted(path, bytes(content))


def _image_accepted(path: Path) -> bool:
    try:
        size = check_image(path).size
    except InputError:
        return False
    assert 0 < size[0] * size[1] <= max_pixels()
    assert image_files.image_size(path) == size
    if size[0] * size[1] < 10**7:
        try:
            image = image_files.read_image(path)
        except InputError as error:
            raise AssertionError(f"the check passes what does not decode: {error}") from None
        assert image.shape == (size[1], size[0], 3)
    return True


def _label_accepted(path: Path, content: bytes) -> bool:
    try:
        label = image_files.load_label(path)
    except InputError:
        return False
    with Image.open(io.BytesIO(content)) as image:
        values = np.asarray(image).astype(int)
    assert label.ids.shape == values.shape
    bits = content[24]
    if image.mode == "L" and bits < 8:
        values //= 255 // (2**bits - 1)
    assert (label.ids == values).all()
    return True


def _damage(content: bytearray, rng: np.random.Generator) -> None:
    at = int(rng.integers(min(len(content), 700 if content[0] == 0xFF else 120)))
    kind = rng.integers(7)
    if kind == 0:
        content[at] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        content[at] = int(rng.integers(256))
    elif kind == 2:
        content[at : at + 4] = struct.pack(">I", _NUMBERS[rng.integers(len(_NUMBERS))])
    elif kind == 3:
        content[at : at + 2] = struct.pack(">H", _NUMBERS[rng.integers(len(_NUMBERS))] & 0xFFFF)
    elif kind == 4:
        del content[at : at + int(rng.integers(1, 40))]
    elif kind == 5:
        content[at:at] = content[at : at + int(rng.integers(1, 40))]
    elif content[0] == 0x89 and len(content) > 29:  # a field of the header
        field = int(rng.integers(16, 29))
        content[field] = int(rng.choice([0, 1, 2, 3, 4, 6, 8, 16, content[field] + 1 & 255]))


def _with_checksums(content: bytearray) -> bytearray:
    """Correct the checksums, so that the damage is seen behind them."""
    start = 8
    while start + 12 <= len(content):
        length = struct.unpack_from(">I", content, start)[0]
        if start + 12 + length > len(content):
            break
        struct.pack_into(">I", content, start + 8 + length, zlib.crc32(content[start + 4 : start + 8 + length]))
        start += 12 + length
    return content
