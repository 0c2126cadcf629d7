"""Edges found in drawn images."""

import cv2
import numpy as np

from lib.target.edges import find_edges

SIZE = (480, 270)


def test_edges_lie_where_they_were_drawn():
    x, y = np.meshgrid(np.arange(480.0), np.arange(270.0))
    slope = np.radians(17)
    away = (y - 60.3) * np.cos(slope) - (x - 20) * np.sin(slope)  # pixels from a straight edge
    image = 90 + 100 * np.clip(away + 0.5, 0, 1)[..., None] + np.random.default_rng(0).normal(0, 3, (270, 480, 3))
    found = find_edges(image.clip(0, 255).astype(np.uint8), np.ones((270, 480), bool), 20, 50)
    off = (found[..., 1] - 60.3) * np.cos(slope) - (found[..., 0] - 20) * np.sin(slope)
    assert np.linalg.norm(found[:, -1] - found[:, 0], axis=1).sum() > 0.9 * 480
    assert np.abs(off).mean() < 0.1


def test_edges_are_looked_for_in_view_only():
    image = cv2.resize(np.random.default_rng(0).integers(0, 255, (9, 16, 3), dtype=np.uint8), SIZE, interpolation=0)
    view = np.zeros(SIZE[::-1], bool)
    assert len(find_edges(image, view, 20, 50)) == 0
    view[:, :240] = True
    found = find_edges(image, view, 20, 50)
    assert len(found) and found[..., 0].max() < 241
