"""Sampling weights and copies of images that show rare classes."""

import numpy as np
import pytest

from lib.dataset import image_files, layout
from lib.dataset.classes import RIDER
from lib.dataset.rare_classes import copies_per_item, rare_class_weights


def test_rare_classes_are_seen_more_often(sample):
    items = layout.read_split(sample, "train_source")
    weights = rare_class_weights(items)
    assert sum(weights.values()) == pytest.approx(1) and min(weights.values()) > 0
    shows = {item.id: (image_files.read_label(item.label) == RIDER).mean() > 0.0005 for item in items}
    if 0 < sum(shows.values()) < len(items):
        assert np.mean([weights[i] for i in shows if shows[i]]) > np.mean([weights[i] for i in shows if not shows[i]])


def test_a_class_on_a_single_image_is_sampled_as_often_as_other_classes(tmp_path):
    items = []
    for i in range(10):
        label = np.zeros((20, 20), np.uint8)
        label[:10] = 8
        if i == 0:
            label[:2] = RIDER
        image_files.write_png(tmp_path / f"{i}.png", label)
        items.append(layout.Item(str(i), tmp_path / f"{i}.png", tmp_path / f"{i}.png"))
    weights = rare_class_weights(items)
    assert weights["0"] > 5 * weights["1"] and weights["1"] == pytest.approx(weights["9"])


def test_copies_follow_the_weights_and_keep_their_mean(tmp_path):
    items = [layout.Item(name, tmp_path / name, None) for name in "abc"]
    weights = {"a": 0.5, "b": 0.3, "c": 0.2}
    assert copies_per_item(items, 0, weights) == [0, 0, 0] and copies_per_item(items, 1, weights) == [1, 1, 1]
    assert copies_per_item(items, 3, weights) == [4, 3, 2]
