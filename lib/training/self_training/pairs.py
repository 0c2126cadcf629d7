"""Pairs of a source and a target crop, each determined by its position in the training and the seed alone.

A resumed training therefore sees the same crops as an undisturbed one, whatever the number of loader processes.
"""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.dataset import InfiniteSampler
from mmengine.registry import DATA_SAMPLERS
from mmseg.registry import DATASETS, TRANSFORMS
from torch.utils.data import Dataset

import lib.training.data  # noqa: F401  registers CompetitionDataset
from lib.dataset import image_files
from lib.dataset.classes import BACKGROUND, IGNORE


@DATASETS.register_module()
class SourceAndTarget(Dataset):
    """Endless crops by position: the labelled source at even positions, the target at odd ones.

    Source images are drawn by the ``weight`` of their rows if ``rare``; else, as the target's, in random order, each
    once per round.
    """

    def __init__(self, source: dict, target: dict, seed: int, rare: bool):
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
        seed = int(rng.integers(2**31))  # of the two global generators that transforms use
        random.seed(seed)
        np.random.seed(seed)
        return self.parts[part][index]


@DATA_SAMPLERS.register_module()
class PairSampler(InfiniteSampler):
    """Endless positions of :class:`SourceAndTarget` from 0 on; ranks take pairs in turn."""

    def _indices_of_rank(self) -> Iterator[int]:
        for number in itertools.count():
            yield 2 * (number // 2 * self.world_size + self.rank) + number % 2


@TRANSFORMS.register_module()
class LoadTargetImage(BaseTransform):
    """Read an image as 01 and 03 do, in BGR: mmcv's own transform would turn it by its orientation tag."""

    def transform(self, results: dict) -> dict:
        image = np.ascontiguousarray(image_files.read_image(results["img_path"])[..., ::-1])
        shape = image.shape[:2]
        return results | dict(img=image, img_shape=shape, ori_shape=shape)


@TRANSFORMS.register_module()
class LoadOverlayLabel(BaseTransform):
    """Label a target image: Background in the overlay of the augmented ``folder``, if it has one; IGNORE elsewhere."""

    def __init__(self, folder: str):
        path = Path(folder) / "overlay_mask.png"
        self.mask = image_files.read_label(path) if path.exists() else np.zeros((1, 1), np.uint8)

    def transform(self, results: dict) -> dict:
        mask = cv2.resize(self.mask, results["img_shape"][::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        label = np.where(mask > 0, BACKGROUND, IGNORE).astype(np.uint8)
        return results | dict(gt_seg_map=label, seg_fields=["gt_seg_map"])
