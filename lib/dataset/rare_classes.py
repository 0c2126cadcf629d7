"""Oversampling of rare classes: sampling weights of labelled images, and copies of an image by its weight."""

from collections.abc import Mapping, Sequence

import numpy as np

from lib.dataset import image_files
from lib.dataset.classes import CLASSES
from lib.dataset.layout import Item
from lib.parallel import in_threads

_TEMPERATURE = 0.1  # of the class probabilities: lower values favour rare classes more
_MIN_SHARE = 0.0005  # of an image's pixels at which a class counts as present


def rare_class_weights(items: Sequence[Item]) -> dict[str, float]:
    """Return the sampling probability of each labelled image by id; images of rare classes get more.

    A class has probability ~ exp((1 - share) / T), with its share of all pixels (Hoyer et al., "DAFormer", CVPR 2022,
    equation 8), divided among the images in which it is present.
    """

    def count(item: Item) -> np.ndarray:
        assert item.label
        return np.bincount(image_files.read_label(item.label).ravel(), minlength=256)[: len(CLASSES)]

    counts = np.stack(in_threads(count, items, "rare classes")).astype(float)
    present = counts > _MIN_SHARE * np.maximum(counts.sum(axis=1, keepdims=True), 1)
    share = counts.sum(axis=0) / max(1.0, counts.sum())
    chance = np.where(present.any(axis=0), np.exp((1 - share) / _TEMPERATURE), 0)
    weights = (present * (chance / max(chance.sum(), 1e-12) / np.maximum(present.sum(axis=0), 1))).sum(axis=1)
    total = weights.sum()
    # Images without any class keep a small probability.
    weights = (weights / total if total > 0 else weights) * 0.9 + 0.1 / len(items)
    return {item.id: float(weight) for item, weight in zip(items, weights / weights.sum(), strict=True)}


def copies_per_item(items: Sequence[Item], mean: int, weights: Mapping[str, float]) -> list[int]:
    """Return the copies of each item, ``mean`` on average: above 1, weights divide the rest by largest remainder."""
    if mean <= 1:
        return [mean] * len(items)
    extra = (mean - 1) * len(items)
    quotas = np.array([weights[item.id] for item in items]) * (mean - 1) * len(items)
    numbers = np.floor(quotas).astype(int)
    numbers[np.argsort(numbers - quotas, kind="stable")[: extra - numbers.sum()]] += 1
    return (numbers + 1).tolist()
