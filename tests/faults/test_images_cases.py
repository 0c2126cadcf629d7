"""Bad images, labels, tables and data sets: each is refused in plain words, or read exactly right."""

import pytest

from tests.faults import data_sets_cases, images_cases, labels_cases, special_files_cases


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=name)
        for topic in (labels_cases, images_cases, special_files_cases, data_sets_cases)
        for name, case in topic.CASES.items()
    ],
)
def test_bad_inputs(case, tmp_path):
    case(tmp_path)
