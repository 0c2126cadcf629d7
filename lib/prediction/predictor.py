"""Class maps from one or several trained networks, with all test-time options."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from lib.dataset import image_files, layout
from lib.errors import InputError
from lib.parallel import evenly_spaced
from lib.prediction.network import Network
from lib.prediction.options import DEFAULTS, TestTimeOptions
from lib.prediction.postprocess import most_probable_class, overlay_mask, remove_small_regions
from lib.prediction.rectified_views import rectified_views, visible_angles
from lib.run import Run
from lib.synthesis.target_camera import TargetCamera


class Predictor:
    """One or several trained networks that label images of one camera.

    Args:
        config: ``train/config.py`` of the run that trained the network.
        checkpoint: weights that fit it.
        options: test-time options.
        more: further pairs of config and checkpoint; probabilities are averaged.
        target: target camera, for ``rectified_views`` and ``apply_overlay``.
        frames, source: image files of the target and of the training, see :meth:`Network.prepare`.

    Raises:
        InputError: a checkpoint does not fit its config, or an option needs what is not known.
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
        remedy = "Run 01_augment with an estimated or given lens first."
        if options.rectified_views and (target is None or target.lens is None):
            raise InputError(f"rectified_views: the target's lens is not known. {remedy}")
        if options.apply_overlay and target is None:
            raise InputError(f"apply_overlay: the target camera is not known. {remedy}")
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
            overlay = overlay_mask(self.target, image) if self.target and self.options.apply_overlay else None
            label = most_probable_class(probabilities, overlay)
            labels.append(remove_small_regions(label, self.options.min_region) if self.options.min_region else label)
        return labels

    def label_items(self, items: Sequence[layout.Item]) -> Iterator[tuple[layout.Item, np.ndarray, np.ndarray]]:
        """Yield each item with its image and class ids, in order. Images of one size share a batch of crops."""
        group: list[tuple[layout.Item, np.ndarray]] = []
        for item in items:
            image = image_files.read_image(item.image)
            if group and (image.shape != group[0][1].shape or len(group) >= self._images_per_batch(image.shape[:2])):
                yield from self._label_group(group)
                group = []
            group.append((item, image))
        if group:
            yield from self._label_group(group)

    def _label_group(self, group):
        for (item, image), label in zip(group, self.labels([image for _, image in group]), strict=True):
            yield item, image, label

    def _images_per_batch(self, shape: tuple[int, int]) -> int:
        return max(-(-self.options.crops_per_batch // network.crops(shape)) for network in self.networks)

    def _probabilities(self, images: Sequence[np.ndarray]) -> Tensor:
        """Return ``float32 (N, classes, H, W)``: the networks' mean, where views reach their weighted mean with it."""
        total = self._mean(images)
        if not (self.options.rectified_views and self.target and self.target.lens):
            return total
        shape, weight = images[0].shape[:2], 1.0
        lens = self.target.lens.scaled(shape[::-1])
        for view in rectified_views(lens, self.options.rectified_views, visible_angles(self.target)):
            total += view.to_lens_image(self._mean([view.remap.image(image) for image in images], shape))
            weight = weight + view.weight
        return total / total.new_tensor(weight)

    def _mean(self, images: Sequence[np.ndarray], reference: tuple[int, int] | None = None) -> Tensor:
        total = 0.0
        for network in self.networks:
            total = total + network.probabilities(images, reference)
        return total / len(self.networks)


def predict_frames(run: Run, paths: Sequence[Path], most: int = 32) -> list[np.ndarray]:
    """Return the class ids that a run's best network predicts for at most ``most`` images; none before its training."""
    checkpoint = run.best_checkpoint()
    if checkpoint is None:
        return []
    predict = Predictor(run.config, checkpoint)
    return [predict(image_files.read_image(path)) for path in evenly_spaced(paths, most)]
