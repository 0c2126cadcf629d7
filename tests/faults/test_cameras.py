"""Camera files that do not fit, each refused in one sentence; and random ones."""

import pytest

from tests.faults import fuzz_camera_yaml
from tests.faults.cameras_cases import CASES


@pytest.mark.parametrize("name", CASES)
def test_camera_files_are_refused_or_handled_right(name, tmp_path):
    CASES[name](tmp_path)


def test_random_camera_files_neither_crash_nor_pass_wrongly(tmp_path):
    accepted = [fuzz_camera_yaml.one(seed, tmp_path) for seed in range(40)]
    assert any(accepted) and not all(accepted)
