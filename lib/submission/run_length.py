"""Run lengths of masks, as the competition wants them: pixels counted from 1, row by row."""

import numpy as np

from lib.errors import InputError, shortened

ABSENT = "-1"  # run lengths of a class that does not occur


def encode_mask(mask: np.ndarray) -> str:
    """Encode ``bool (H, W)`` as ``"start length start length …"``; :data:`ABSENT` where it is all False."""
    edges = np.flatnonzero(np.diff(mask.ravel(), prepend=False, append=False)) + 1  # pixels count from 1
    edges[1::2] -= edges[::2]
    return " ".join(map(str, edges.tolist())) or ABSENT


def decode_mask(text: str, size: tuple[int, int]) -> np.ndarray:
    """Decode run lengths to ``bool (H, W)`` of ``size`` = (width, height); refuse what does not fit together."""
    width, height = size
    if text == ABSENT:
        return np.zeros((height, width), dtype=bool)
    try:
        numbers = np.array([int(word) for word in text.split()], dtype=np.int64)
    except (ValueError, OverflowError):
        numbers = np.zeros(0, dtype=np.int64)
    found = f"run lengths '{shortened(text)}'"
    # Other spellings of a number, such as 007, +7, 1_0 or ٧, and other spaces are read differently elsewhere.
    plain = " ".join(map(str, numbers.tolist())) == text
    if not plain or numbers.size == 0 or numbers.size % 2 or numbers.min() < 1:
        raise InputError(f"{found} (expected: pairs of numbers from 1, or {ABSENT})")
    starts, lengths = numbers[::2], numbers[1::2]
    # The first test keeps the sum of the second from overflowing.
    if numbers.max() > width * height or (starts + lengths - 1).max() > width * height:
        raise InputError(f"{found} beyond the last pixel (expected: masks of {width}×{height})")
    edges = np.stack([starts - 1, starts - 1 + lengths], axis=1).ravel()
    gaps = np.diff(edges, prepend=0, append=width * height)
    if gaps.min() < 0:
        raise InputError(f"{found} (expected: ascending runs that do not overlap)")
    return np.repeat(np.arange(gaps.size) % 2 == 1, gaps).reshape(height, width)


def last_pixel(text: str) -> int:
    """Return the last pixel of the last run, counted from 1; 0 for absent or malformed run lengths."""
    try:
        start, length = map(int, text.split()[-2:])
    except ValueError:
        return 0
    return start + length - 1
