"""Bad checkpoints and configs are refused, or an older checkpoint is taken; no code of a file is run."""

import pytest

from tests.faults.checkpoints_cases import CASES


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_bad_checkpoints(name, tmp_path):
    CASES[name](tmp_path)
