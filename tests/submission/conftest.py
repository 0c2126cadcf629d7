"""A test split of black images, random masks, and their submission."""

import numpy as np
import pandas as pd
import pytest

from lib import run
from lib.dataset import image_files, layout
from lib.dataset.classes import BACKGROUND, CAR, IGNORE
from lib.stages.submit import SubmitOptions, submit

IDS = ("TEST_0000", "TEST_0001", "TEST_0002")
SIZE = (8, 6)  # width, height


@pytest.fixture(autouse=True)
def quick_record(monkeypatch):
    """The environment in ``run.yaml`` is not what is tested here, and finding it out imports torch."""
    monkeypatch.setattr(run, "environment", dict)


@pytest.fixture
def data(tmp_path):
    """A test split whose images are twice the submission's size."""
    folder = tmp_path / "set"
    for i in IDS:
        image_files.write_png(folder / f"{i}.png", np.zeros((12, 16, 3), np.uint8))
    pd.DataFrame({"id": IDS, "img_path": [f"{i}.png" for i in IDS]}).to_csv(folder / "test.csv", index=False)
    # The sample lists images in another order than test.csv.
    sample = pd.DataFrame({"id": layout.row_ids(IDS[::-1]), "mask_rle": "-1"})
    sample.to_csv(folder / "sample_submission.csv", index=False)
    return folder


@pytest.fixture
def masks(tmp_path):
    """Random masks twice the submission's size, with Background and IGNORE; Car only in the first."""
    rng = np.random.default_rng(0)
    for i, image_id in enumerate(IDS):
        mask = rng.choice([*range(CAR), BACKGROUND, IGNORE], (12, 16)).astype(np.uint8)
        if i == 0:
            mask[:6] = CAR
        image_files.write_png(tmp_path / "run" / "masks" / f"{image_id}.png", mask)
    return tmp_path / "run" / "masks"


@pytest.fixture
def written(masks, data, tmp_path):
    return submit(SubmitOptions(data=data, out=tmp_path / "run", submission_size=SIZE))[0]
