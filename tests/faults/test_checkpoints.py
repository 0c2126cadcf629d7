"""Bad checkpoints and configs are refused, or an older checkpoint is taken; no code of a file is run."""

import pytest

from tests.faults import checkpoints_cases, configs_cases


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=name) for topic in (checkpoints_cases, configs_cases) for name, case in topic.CASES.items()],
)
def test_bad_checkpoints(case, tmp_path):
    case(tmp_path)
