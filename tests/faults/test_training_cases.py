import pytest

from tests.faults.training_cases import CASES


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_bad_inputs_of_training_are_refused(name, tmp_path):
    CASES[name](tmp_path)
