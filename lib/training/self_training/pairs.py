"""Pairs of a source and a target crop, each a function of its place in the training and of the seed alone.

So a resumed training goes on with the very crops that an undisturbed one would have seen, however many workers load
them. Importing this module registers the data set, the sampler and the transform.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.dist import get_dist_info
from mmengine.registry import DATA_SAMPLERS
from mmseg.registry import DATASETS, TRANSFORMS
from torch.utils.data import Dataset, Sampler

import lib.training.registry
from lib.dataset import image_files
from lib.dataset.classes import BACKGROUND, IGNORE


@DATASETS.register_module()
class SourceAndTarget(Dataset):
    """Crops by position: the labelled source at even positions, the target at odd ones, without end.

    Args:
        source, target: configs of the two data sets, with their pipelines.
        seed: of the choice of images and of all that their transforms draw.
        rare: draw source images by the ``weight`` of their rows; else, as the target's, all of them in turn.
    """

    def __init__(self, source: dict, target: dict, seed: int, rare: bool = True):
        self.parts = DATASETS.build(source), DATASETS.build(target)
        self.metainfo, self.seed = self.parts[0].metainfo, seed
        weights = np.array([self.parts[0].get_data_info(i)["weight"] for i in range(len(self.parts[0]))])
        self.chances = weights / weights.sum() if rare else None

    def __len__(self) -> int:
        return 2 * len(self.parts[0])

    def __getitem__(self, position: int) -> dict:
        pair, part = divmod(position, 2)
        count = len(self.parts[part])
        rng = np.random.default_rng([self.seed, position])
        if part == 0 and self.chances is not None:
            index = int(rng.choice(count, p=self.chances))
        else:
            turn, place = divmod(pair, count)
            index = int(np.random.default_rng([self.seed, part, turn, 0]).permutation(count)[place])
        with _seeded(int(rng.integers(2**31))):
            return self.parts[part][index]


@contextmanager
def _seeded(seed: int):
    """The transforms draw from the two global generators: seed those, and leave them as they were."""
    before = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


@DATA_SAMPLERS.register_module()
class PairSampler(Sampler):
    """Positions of :class:`SourceAndTarget` from 0 on without end; ranks take pairs in turn.

    Args:
        dataset, seed: mmengine passes them; positions depend on neither.
    """

    def __init__(self, dataset=None, seed: int | None = None):
        self.dataset, self.start = dataset, 0
        self.rank, self.world = get_dist_info()

    def __iter__(self) -> Iterator[int]:
        number = self.start
        while True:
            yield 2 * (number // 2 * self.world + self.rank) + number % 2
            number += 1

    def __len__(self) -> int:
        return len(self.dataset)

    def skip(self, num_samples: int) -> None:
        """Begin after this many positions of the rank: mmengine's call when it resumes."""
        self.start = num_samples

    def set_epoch(self, epoch: int) -> None:
        """Endless: there are no epochs."""


@TRANSFORMS.register_module()
class LoadOverlayLabel(BaseTransform):
    """Gives a target image what is known of its label: Background in the camera's static surroundings, else IGNORE.

    Args:
        folder: an augmented folder; without a ``overlay_mask.png`` in it, nothing is known.
    """

    def __init__(self, folder: str):
        path = Path(folder) / "overlay_mask.png"
        self.mask = image_files.read_label(path) if path.exists() else np.zeros((1, 1), np.uint8)

    def transform(self, results: dict) -> dict:
        mask = cv2.resize(self.mask, results["img_shape"][::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        label = np.where(mask > 0, BACKGROUND, IGNORE).astype(np.uint8)
        return results | dict(gt_seg_map=label, seg_fields=["gt_seg_map"])
