"""Bad inputs around the submission, made by hand and at random: refused in plain words, or handled exactly right."""

import pytest

from tests.faults import fuzz_csv, fuzz_rle, submission_cases, submit_cases

CASES = submit_cases.CASES | submission_cases.CASES
_EVERY = 6  # case that quick tests try


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if i % _EVERY else ()) for i, n in enumerate(CASES)]
)
def test_bad_inputs(name, tmp_path):
    CASES[name](tmp_path)


@pytest.mark.parametrize(("fuzzer", "seeds"), [(fuzz_rle, 300), (fuzz_csv, 30)])
def test_random_inputs(fuzzer, seeds, tmp_path):
    accepted = [fuzzer.one(seed, tmp_path) for seed in range(seeds)]
    assert any(accepted) and not all(accepted)
