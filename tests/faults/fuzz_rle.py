"""Random run lengths: decoded to the pixels that they name, or refused."""

import random
import re
from pathlib import Path

import numpy as np

from lib.errors import InputError
from lib.submission.run_length import decode_mask, encode_mask

_WORDS = (
    *("", "-1", "0", "1", "2", "3", "7", "99", "-2", "+1", "01", "1.0", "1e1", "1_0", "0x1", "nan", "inf", "None"),
    *("2147483647", "2147483648", "4294967297", "9223372036854775807", "9223372036854775808", "18446744073709551617"),
    *("9" * 40, "9" * 5000, "\u0661", "\uff11", "\xb2", "\u2212", "-", "\ud800"),
)
_CHARACTERS = "0123456789" * 2 + " -+._,;:e\t\n\r\v\f\0\x1c\x85\xa0\u2003\u200b\ufeff\u0661\uff11\xb9'\"[]"


def one(seed: int, folder: Path) -> bool:
    """Decode one random text; return whether it was accepted. Needs no files."""
    draw = random.Random(seed)
    width, height = draw.randint(1, 40), draw.randint(1, 40)
    mask = np.random.default_rng(seed).random((height, width)) < draw.choice((0, 0.02, 0.5, 0.98, 1))
    text = encode_mask(mask)
    for _ in range(draw.choice((0, 1, 1, 1, 2, 5))):
        text = _mutate(draw, text, width)
    expected = _decode(text, width * height)
    try:
        found = decode_mask(text, (width, height))
    except InputError as error:
        assert expected is None, f"refused: {text[:200]!r}"
        assert len(str(error)) < 300 and "Error" not in str(error), error
        return False
    assert expected is not None, f"accepted: {text[:200]!r}"
    assert found.shape == (height, width) and (found.ravel() == expected).all(), f"other pixels: {text[:200]!r}"
    return True


def _mutate(draw: random.Random, text: str, width: int) -> str:
    words, at = text.split(" "), draw.randint(0, len(text))
    place = draw.randrange(len(words))
    kind = draw.randrange(11)
    if kind == 0:
        return text[:at] + draw.choice(_CHARACTERS) + text[at:]
    if kind == 1:
        return text[:at] + text[at + 1 :]
    if kind == 2:
        return text[:at] + draw.choice(_CHARACTERS) + text[at + 1 :]
    if kind == 3:
        return text[:at]
    if kind == 4:
        return text[at:] + text[:at]
    if kind == 5:
        return text.replace(" ", draw.choice(_CHARACTERS), draw.choice((1, -1)))
    if kind == 6:
        words[place] = draw.choice(_WORDS)
    elif kind == 7:
        words.insert(place, draw.choice(_WORDS))
    elif kind == 8:
        words[place : place + 2] = words[place : place + 2][::-1]
    elif kind == 9:
        words[place:place] = words[place : place + draw.randint(1, 4)]
    elif re.fullmatch("[0-9]{1,18}", words[place]):
        words[place] = str(int(words[place]) + draw.choice((-width, -2, -1, 1, 2, width, 2**32)))
    return " ".join(words)


def _decode(text: str, pixels: int) -> np.ndarray | None:
    """Decode pixel by pixel; None for a text that names no pixels."""
    mask, end = np.zeros(pixels, bool), 0
    if text == "-1":
        return mask
    if not re.fullmatch("[1-9][0-9]* [1-9][0-9]*( [1-9][0-9]* [1-9][0-9]*)*", text):
        return None
    words = text.split(" ")
    if max(map(len, words)) > 9:
        return None
    for start, length in zip(map(int, words[::2]), map(int, words[1::2]), strict=True):
        if start <= end or start + length - 1 > pixels:
            return None
        end = start + length - 1
        mask[start - 1 : end] = True
    return mask
