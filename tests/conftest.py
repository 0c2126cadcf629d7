"""Shared by the tests: a tiny rendered data set, made once."""

import os

import pytest
import torch

# A busy machine makes threads wait for each other; tiny networks run faster on one.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    """A rendered data set: 6 source, 2 validation, 8 target and 3 test images of 192x108."""
    from lib.sample import write

    return write(tmp_path_factory.mktemp("data") / "sample", source=6, val=2, target=8, test=3, size=(192, 108))
