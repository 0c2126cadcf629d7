"""Class maps from one or several trained networks, with all test-time options."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lib.dataset import image_files, layout
from lib.errors import InputError
from lib.prediction.network import Network
from lib.prediction.options import DEFAULTS, TestTimeOptions
from lib.prediction.postprocess import most_probable_class, remove_small_regions
from lib.prediction.rectified_views import rectified_views, visible_angles
from lib.synthesis.target_camera import TargetCamera


class Predictor:
    """One or several trained networks that label images of one camera.

    Probabilities are averaged over the first :class:`Network` and ``more`` pairs of config and checkpoint. Options that
    need ``target`` raise an InputError without it; ``frames`` and ``source`` are for :meth:`Network.prepare`.
    """

    def __init__(
        self,
        config: str | Path,
        checkpoint: str | Path,
        options: TestTimeOptions = DEFAULTS,
        *,
        more: Sequence[tuple[Path, Path]] = (),
        target: TargetCamera | None = None,
        frames: Sequence[Path] = (),
        source: Sequence[Path] = (),
    ):
        needs = ("rectified_views", "lens", target and target.lens), ("apply_overlay", "overlay", target)
        for option, part, known in needs:
            if getattr(options, option) and known is None:
                found = f"{option}: the target's {part} is not known"
                raise InputError(f"{found}. Run 01_augment with an estimated or given lens first.")
        self.options, self.target, self._images = options, target, (frames, source)
        self._loaded = [Network(*member, options) for member in [(config, checkpoint), *more]]

    @cached_property
    def networks(self) -> list[Network]:
        """The networks, prepared at first use because adaptation and compilation take time."""
        for network in self._loaded:
            network.prepare(*self._images)
        return self._loaded

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the class ids ``uint8 (H, W)`` of an image ``uint8 (H, W, 3)`` RGB."""
        return self.labels([image])[0]

    def probabilities(self, image: np.ndarray) -> Tensor:
        """Return the class probabilities ``float32 (classes, H, W)`` of an image ``uint8 (H, W, 3)`` RGB."""
        return self._probabilities([image])[0]

    def labels(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the class ids of each of several images of one size."""
        labels = []
        for image, probabilities in zip(images, self._probabilities(images), strict=True):
            overlay = None
            if self.target and self.options.apply_overlay:
                overlay = self.target.match_overlay(image).scaled(image.shape[1::-1]).mask
            label = most_probable_class(probabilities, overlay)
            labels.append(remove_small_regions(label, self.options.min_region) if self.options.min_region else label)
        return labels

    def label_items(self, items: Sequence[layout.Item]) -> Iterator[tuple[layout.Item, np.ndarray, np.ndarray]]:
        """Yield each item with its image and class ids, in order. Images of one size share a batch of crops."""
        pairs = ((item, image_files.read_image(item.image)) for item in items)
        for shape, group in groupby(pairs, key=lambda pair: pair[1].shape):
            most = max(-(-self.options.crops_per_batch // network.crops(shape[:2])) for network in self.networks)
            while batch := list(islice(group, most)):
                labels = self.labels([image for _, image in batch])
                yield from ((*pair, label) for pair, label in zip(batch, labels, strict=True))

    def _probabilities(self, images: Sequence[np.ndarray]) -> Tensor:
        """Return ``float32 (N, classes, H, W)``: the networks' mean, where views reach their weighted mean with it."""
        total, shape = self._mean(images), images[0].shape[:2]
        if not (self.options.rectified_views and self.target and self.target.lens):
            return total
        lens, weight = self.target.lens, np.ones(shape, np.float32)
        limits = visible_angles(lens, self.target.overlay.mask)
        for view in rectified_views(lens.scaled(shape[::-1]), self.options.rectified_views, limits):
            total += view.to_lens_image(self._mean([view.remap.image(image) for image in images], shape))
            weight = weight + view.weight
        return total / total.new_tensor(weight)

    def _mean(self, images: Sequence[np.ndarray], reference: tuple[int, int] | None = None) -> Tensor:
        found = (network.probabilities(images, reference) for network in self.networks)
        return sum(found, torch.zeros(())) / len(self.networks)
