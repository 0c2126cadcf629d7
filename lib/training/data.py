"""Training data: the competition's layout as a data set of mmseg, and source crops transformed while training."""

import random
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.dataset import InfiniteSampler
from mmengine.registry import DATA_SAMPLERS
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS, TRANSFORMS

from lib.dataset import image_files, layout
from lib.dataset.classes import CLASSES_WITH_BACKGROUND
from lib.synthesis.params import AugmentParams
from lib.synthesis.target_camera import TargetCamera

_ATTEMPTS = 10  # at a crop that no single class fills
_SMALLER = 0.7  # scale between two sizes of the target camera


@DATASETS.register_module()
class CompetitionDataset(BaseSegDataset):
    """A split, such as ``train_source``, of a data set in the competition's layout."""

    def __init__(self, folder: str, split: str, **kwargs):
        self.folder, self.split = folder, split
        super().__init__(reduce_zero_label=False, **kwargs)

    def __getitem__(self, index: int) -> dict:
        if isinstance(index, SeededIndex):  # of the two global generators that transforms use
            random.seed(index.seed)
            np.random.seed(index.seed)
        return super().__getitem__(index)

    def load_data_list(self) -> list[dict]:
        items = layout.read_split(self.folder, self.split)
        table = layout.read_table(Path(self.folder) / f"{self.split}.csv", ("id",))
        weights = table["weight"].astype(float) if "weight" in table else [1.0] * len(items)
        shared = dict(label_map=self.label_map, reduce_zero_label=False, seg_fields=[])
        return [
            dict(img_path=str(item.image), seg_map_path=item.label and str(item.label), weight=weight, **shared)
            for item, weight in zip(items, weights, strict=True)
        ]


class SeededIndex(int):
    """Index of an image, with the ``seed`` of the crop that is taken of it."""

    seed: int


@DATA_SAMPLERS.register_module()
class SeededInfiniteSampler(InfiniteSampler):
    """Endless random indices; a crop's seed depends on its position in the training alone.

    A resumed training therefore sees the same crops as an undisturbed one, whatever the number of loader processes.
    """

    def _indices_of_rank(self) -> Iterator[int]:
        for number, place in enumerate(super()._indices_of_rank()):
            index = SeededIndex(place)
            index.seed = hash((self.seed, number * self.world_size + self.rank)) % 2**32
            yield index


@DATA_SAMPLERS.register_module()
class WeightedInfiniteSampler(SeededInfiniteSampler):
    """Endless random indices, with the ``weight`` column of a :class:`CompetitionDataset` as probabilities."""

    def _infinite_indices(self) -> Iterator[int]:
        weights = torch.tensor([entry["weight"] for entry in self.dataset.load_data_list()], dtype=torch.float64)
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            yield from torch.multinomial(weights, 1024 * self.world_size, True, generator=generator).tolist()


@TRANSFORMS.register_module()
class TransformToTarget(BaseTransform):
    """Read a source image and its label, and render one crop of what the target camera would have taken.

    It replaces loading, resizing and cropping, and computes the crop only. It serves sets of 01 with ``copies=0``.

    Args:
        scale: (width, height) into which the target's images are fitted, as in 03.
        ratio_range: least and largest factor of further scaling.
        crop_size: (height, width) of the result, smaller where the scaled target is smaller.
        cat_max_ratio: largest share of a crop's pixels of one class; ten crops are tried for it.
    """

    def __init__(self, folder: str, scale, ratio_range, crop_size, cat_max_ratio: float = 0.75):
        camera = TargetCamera.read(folder)
        factor = min(side / full for side, full in zip(scale, camera.size, strict=True))
        width, height = (max(1, round(side * factor)) for side in camera.size)
        camera = camera.scaled((width, height))
        self.ratio_range, self.crop_size, self.cat_max_ratio = ratio_range, crop_size, cat_max_ratio
        # A crop that will be shrunk is rendered by a smaller camera: fewer pixels to compute.
        factors = [1.0]
        while factors[-1] * _SMALLER >= ratio_range[0]:
            factors.append(factors[-1] * _SMALLER)
        self.cameras = [(f, camera.scaled((round(width * f), round(height * f)))) for f in factors]

    def transform(self, results: dict) -> dict:
        source = image_files.read_image(results["img_path"]), image_files.read_label(results["seg_map_path"])
        rng = np.random.default_rng(np.random.randint(2**31))  # mmengine seeds the global one in every worker
        params, ratio = AugmentParams.sample(rng), rng.uniform(*self.ratio_range)
        factor, camera = min((c for c in self.cameras if c[0] >= min(ratio, 1.0)), key=lambda c: c[0])
        ratio /= factor
        sides = zip(self.crop_size[::-1], camera.size, strict=True)
        width, height = (min(full, round(side / ratio)) for side, full in sides)
        for _ in range(_ATTEMPTS):
            x, y = (int(rng.integers(full - n + 1)) for n, full in zip((width, height), camera.size, strict=True))
            crop, label = camera.transform(*source, params, (x, y, width, height))
            counts = np.bincount(label.ravel(), minlength=256)[: len(CLASSES_WITH_BACKGROUND)]
            if counts.max() < self.cat_max_ratio * max(1, counts.sum()) and (counts > 0).sum() > 1:
                break
        size = (min(self.crop_size[1], round(width * ratio)), min(self.crop_size[0], round(height * ratio)))
        crop = cv2.resize(crop[..., ::-1], size, interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR)
        label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST_EXACT)
        shape = crop.shape[:2]
        return results | dict(img=crop, img_shape=shape, ori_shape=shape, gt_seg_map=label, seg_fields=["gt_seg_map"])
