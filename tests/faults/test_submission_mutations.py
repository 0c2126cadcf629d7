"""The check of a submission finds every mutation that changes what is submitted."""

import pytest

from tests.faults.submission_mutations import MUTATIONS, run


def test_some_mutations_are_caught(tmp_path):
    assert run(tmp_path, list(MUTATIONS)[::12])["missed"] == {}


@pytest.mark.slow
def test_all_mutations_are_caught(tmp_path):
    found = run(tmp_path)
    assert found["missed"] == {}
    assert found["tried"] >= 350
