"""Run lengths of masks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from lib.errors import InputError
from lib.submission.run_length import decode_mask, encode_mask


def naive_encode(mask: np.ndarray) -> str:
    words, previous = [], False
    for number, pixel in enumerate([bool(mask[y, x]) for y in range(mask.shape[0]) for x in range(mask.shape[1])], 1):
        if pixel and not previous:
            words += [number, 0]
        if pixel:
            words[-1] += 1
        previous = pixel
    return " ".join(map(str, words)) or "-1"


def test_run_lengths_written_by_hand():
    mask = np.array(
        [
            [0, 1, 1, 0],
            [0, 0, 0, 1],  # goes on in the next row: one run
            [1, 0, 0, 1],
        ],
        dtype=bool,
    )
    assert encode_mask(mask) == "2 2 8 2 12 1"
    np.testing.assert_array_equal(decode_mask("2 2 8 2 12 1", (4, 3)), mask)


def test_absent_and_full():
    assert encode_mask(np.zeros((3, 4), bool)) == "-1"
    assert encode_mask(np.ones((3, 4), bool)) == "1 12"
    assert not decode_mask("-1", (4, 3)).any()
    assert decode_mask("1 12", (4, 3)).all()
    assert decode_mask("-1", (4, 3)).shape == (3, 4)


def test_adjacent_runs_are_one():
    np.testing.assert_array_equal(decode_mask("1 2 3 2", (4, 1)), [[True] * 4])


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=30)))
def test_run_lengths_round_trip(mask):
    text = encode_mask(mask)
    assert text == naive_encode(mask)
    decoded = decode_mask(text, mask.shape[::-1])
    assert decoded.dtype == bool
    np.testing.assert_array_equal(decoded, mask)


def test_encoding_does_not_mind_strides():
    mask = np.random.default_rng(0).random((20, 30)) > 0.5
    assert encode_mask(mask.T[::-1]) == encode_mask(np.ascontiguousarray(mask.T[::-1]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "pairs of numbers"),
        ("nan", "pairs of numbers"),
        ("1 2 3", "pairs of numbers"),
        ("1.5 2", "pairs of numbers"),
        ("0 2", "pairs of numbers"),
        ("3 0", "pairs of numbers"),
        ("-1 2", "pairs of numbers"),
        ("-1 -1", "pairs of numbers"),
        ("1 99999999999999999999999", "pairs of numbers"),
        (" 1 2", "pairs of numbers"),
        ("1  2", "pairs of numbers"),
        ("1\u00a02", "pairs of numbers"),
        ("+1 2", "pairs of numbers"),
        ("01 2", "pairs of numbers"),
        ("1_0 2", "pairs of numbers"),
        ("\u0661 2", "pairs of numbers"),
        (" -1", "pairs of numbers"),
        ("5 1 1 1", "ascending"),
        ("1 3 3 1", "ascending"),
        ("12 2", "beyond the last pixel"),
        ("13 1", "beyond the last pixel"),
        ("9223372036854775807 9223372036854775807", "beyond the last pixel"),
    ],
)
def test_malformed_run_lengths(text, expected):
    with pytest.raises(InputError, match=expected):
        decode_mask(text, (4, 3))


@given(st.text(alphabet="0123456789- ", max_size=20))
def test_any_text_decodes_or_is_refused(text):
    try:
        mask = decode_mask(text, (5, 4))
    except InputError:
        return
    np.testing.assert_array_equal(decode_mask(encode_mask(mask), (5, 4)), mask)


def test_long_texts_are_shortened_in_errors():
    with pytest.raises(InputError) as caught:
        decode_mask("7 " * 5001, (100, 100))
    assert len(str(caught.value)) < 200
