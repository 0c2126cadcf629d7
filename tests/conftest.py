"""Fixtures of several test modules. Their builders are imported late: the operator's tests need torch alone."""

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


@pytest.fixture(scope="session")
def augmented(sample, tmp_path_factory):
    """A run of ``sample`` whose first stage is done."""
    from lib.stages.augment import AugmentOptions, augment

    out = tmp_path_factory.mktemp("runs") / "augmented"
    augment(AugmentOptions(data=sample, out=out, seed=1))
    return out


@pytest.fixture(scope="session")
def trained(augmented, tmp_path_factory):
    """A run of ``sample`` whose second stage is done too."""
    from tests.builders import QUICK, train_copy

    return train_copy(augmented, tmp_path_factory.mktemp("runs") / "trained", QUICK)


# An untrained network


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Config and weights of an untrained network."""
    from tests.builders import random_run

    return random_run(tmp_path_factory.mktemp("run") / "train", 0)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another network, for images of half the size."""
    from tests.builders import random_run

    return random_run(tmp_path_factory.mktemp("other") / "train", 1, (96, 54))


@pytest.fixture(scope="module")
def images():
    """Three smooth random images of the network's size."""
    import cv2
    import numpy as np

    from tests.builders import IMAGE_SIZE

    rng = np.random.default_rng(0)
    return [cv2.resize(rng.integers(0, 256, (9, 16, 3), dtype=np.uint8), IMAGE_SIZE) for _ in range(3)]
