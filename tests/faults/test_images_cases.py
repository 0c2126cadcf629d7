"""Bad images, labels, tables and data sets: each is refused in plain words, or read exactly right."""

import pytest

from tests.faults.images_cases import CASES


@pytest.mark.parametrize("name", CASES)
def test_bad_inputs(name, tmp_path):
    CASES[name](tmp_path)
