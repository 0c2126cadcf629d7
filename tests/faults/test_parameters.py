"""Values of options, as classes and as ``fisheye run -p`` get them."""

import pytest

from tests.faults.parameters_cases import CASES


@pytest.mark.parametrize("name", CASES)
def test_values_are_refused_in_plain_words_or_taken(name, tmp_path):
    CASES[name](tmp_path)
