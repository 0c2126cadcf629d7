"""Training crops: each depends on its position in the training and the seed alone."""

import copy
import pickle
from itertools import islice

import numpy as np
import pytest
from mmengine.dataset import sampler
from mmengine.registry import init_default_scope

from lib.dataset import image_files, layout
from lib.training.data import CompetitionDataset, SeededInfiniteSampler
from tests.builders import classes_label, photo


@pytest.fixture
def crops(tmp_path):
    rows = []
    for index in range(3):
        image_files.write_png(tmp_path / f"{index}.png", photo(index))
        image_files.write_png(tmp_path / f"{index}_gt.png", classes_label(index))
        rows.append((str(index), f"{index}.png", f"{index}_gt.png"))
    layout.write_table(tmp_path / "train_source.csv", layout.SPLITS["train_source"], rows)
    init_default_scope("mmseg")
    pipeline = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations")]
    pipeline += [dict(type="RandomCrop", crop_size=(16, 16)), dict(type="PhotoMetricDistortion")]
    return CompetitionDataset(folder=str(tmp_path), split="train_source", pipeline=pipeline)


def test_a_resumed_training_sees_the_crops_of_an_undisturbed_one(crops):
    undisturbed, resumed = (SeededInfiniteSampler(crops, seed=4) for _ in range(2))
    images = [crops[index]["img"] for index in islice(undisturbed, 6)]
    resumed.skip(4)
    later = [pickle.loads(pickle.dumps(index)) for index in islice(resumed, 2)]  # as loader processes get it
    for index, image in zip(later, images[4:], strict=True):
        assert np.array_equal(crops[index]["img"], image)
    other = copy.copy(later[0])
    other.seed += 1
    assert not np.array_equal(crops[other]["img"], images[4])


def test_ranks_take_other_crops(monkeypatch):
    seeds = []
    for rank in (0, 1):
        monkeypatch.setattr(sampler, "get_dist_info", lambda rank=rank: (rank, 2))
        seeds.append([(int(index), index.seed) for index in islice(SeededInfiniteSampler(range(2), seed=0), 8)])
    monkeypatch.setattr(sampler, "get_dist_info", lambda: (0, 1))
    whole = [(int(index), index.seed) for index in islice(SeededInfiniteSampler(range(2), seed=0), 16)]
    assert [pair for pairs in zip(*seeds, strict=True) for pair in pairs] == whole
