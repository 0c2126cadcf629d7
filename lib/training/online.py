"""Bend source images while training, crop by crop: the other face of :mod:`lib.synthesis.target_camera`.

Used where 01 was run with ``copies=0``. Importing this module registers the transform and the sampler.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.dist import get_dist_info, sync_random_seed
from mmengine.registry import DATA_SAMPLERS
from mmseg.registry import TRANSFORMS
from torch.utils.data import Sampler

from lib.dataset import image_files
from lib.dataset.classes import CLASSES_WITH_BACKGROUND
from lib.synthesis.params import AugmentParams
from lib.synthesis.target_camera import TargetCamera


@TRANSFORMS.register_module()
class BendToTarget(BaseTransform):
    """Reads a source image and its label and makes one crop as the target camera would have seen it.

    Takes the place of loading, resizing and cropping; only the crop is ever computed.

    Args:
        folder: an augmented folder, which knows the target camera.
        scale: (width, height) into which the target's images are fitted, as in 03.
        ratio_range: further scaling, drawn evenly.
        crop_size: (height, width) of the result, smaller where the scaled target is smaller.
        cat_max_ratio: another crop is tried, up to ten times, while one class fills more than this.
    """

    def __init__(self, folder: str, scale, ratio_range, crop_size, cat_max_ratio: float = 0.75):
        target = TargetCamera.read(folder)
        share = min(n / whole for n, whole in zip(scale, target.size, strict=True))
        self.target = target.scaled(tuple(max(1, round(n * share)) for n in target.size))
        self.ratio_range, self.crop_size, self.cat_max_ratio = ratio_range, crop_size, cat_max_ratio
        # A crop that is to be shrunk is made of a smaller camera at once: fewer pixels to bend.
        shares = [1.0]
        while shares[-1] * 0.7 >= ratio_range[0]:
            shares.append(shares[-1] * 0.7)
        self.smaller = [(s, self.target.scaled(tuple(round(n * s) for n in self.target.size))) for s in shares]

    def transform(self, results: dict) -> dict:
        image, label = image_files.read_image(results["img_path"]), image_files.read_label(results["seg_map_path"])
        rng = np.random.default_rng(np.random.randint(2**31))  # mmengine seeds the global one in every worker
        image, label = self.crop(image, label, rng)
        image = np.ascontiguousarray(image[..., ::-1])
        shape = image.shape[:2]
        seg = dict(gt_seg_map=label, seg_fields=["gt_seg_map"])
        return results | seg | dict(img=image, img_shape=shape, ori_shape=shape)

    def crop(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """One random crop of ``uint8 (h, w, 3)`` RGB and ``uint8 (h, w)``, both of ``crop_size`` at most."""
        params, ratio = AugmentParams.sample(rng), rng.uniform(*self.ratio_range)
        share, target = min((one for one in self.smaller if one[0] >= min(ratio, 1.0)), key=lambda one: one[0])
        ratio /= share
        sides = zip(self.crop_size[::-1], target.size, strict=True)
        width, height = (min(whole, round(n / ratio)) for n, whole in sides)
        for _ in range(10):
            x, y = (int(rng.integers(whole - n + 1)) for n, whole in zip((width, height), target.size, strict=True))
            bent, classes = target.transform(image, label, params, (x, y, width, height))
            counts = np.bincount(classes.ravel(), minlength=256)[: len(CLASSES_WITH_BACKGROUND)]
            if counts.max() < self.cat_max_ratio * max(1, counts.sum()) and (counts > 0).sum() > 1:
                break
        size = (min(self.crop_size[1], round(width * ratio)), min(self.crop_size[0], round(height * ratio)))
        if size == (width, height):
            return bent, classes
        way = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
        return cv2.resize(bent, size, interpolation=way), cv2.resize(
            classes, size, interpolation=cv2.INTER_NEAREST_EXACT
        )


@DATA_SAMPLERS.register_module()
class WeightedInfiniteSampler(Sampler):
    """Endless indices, drawn by the ``weight`` column of the data set's table; ranks take turns.

    Args:
        dataset: a ``CompetitionDataset`` whose table has the column.
        seed: the same on all ranks; None: agreed upon.
    """

    def __init__(self, dataset, seed: int | None = None):
        self.weights = torch.tensor([entry["weight"] for entry in dataset.load_data_list()], dtype=torch.float64)
        self.rank, self.world = get_dist_info()
        self.seed = sync_random_seed() if seed is None else seed

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            drawn = torch.multinomial(self.weights, 1024 * self.world, replacement=True, generator=generator)
            yield from drawn[self.rank :: self.world].tolist()

    def __len__(self) -> int:
        return len(self.weights)

    def set_epoch(self, epoch: int) -> None:
        """Endless: there are no epochs."""
