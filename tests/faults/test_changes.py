"""Every changed input is noticed."""

import pytest

from tests.faults.changes_cases import CASES


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_changed_input_is_noticed(case, tmp_path):
    CASES[case](tmp_path)
