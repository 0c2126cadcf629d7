"""Edges found in drawn images."""

import cv2
import numpy as np

from lib.target.edges import POINTS, Edges, find_edges

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


def lines(rng, number=30):
    """Return straight edges of one frame, ``(number, POINTS, 2)``."""
    start, way = rng.uniform((0, 0), (480, 270), (number, 1, 2)), rng.normal(0, 30, (number, 1, 2))
    return (start + np.linspace(0, 1, POINTS)[:, None] * way).clip((0, 0), (479, 269))


def frames(*points):
    return Edges(np.concatenate(points), np.repeat(np.arange(len(points)), [len(p) for p in points]))


def test_repeated_frames_count_once():
    rng = np.random.default_rng(0)
    first, second = lines(rng), lines(rng)
    noisy = first + rng.normal(0, 0.2, first.shape)
    found = frames(first, second, noisy, second).without_repeats()
    assert found.repeats == 2 and set(found.frame) == {0, 1} and (found.points == np.concatenate([first, second])).all()
    assert "2 of them repeated" in found.note()
    assert frames(first, second).without_repeats().repeats == 0
    assert frames(np.empty((0, POINTS, 2)), first).without_repeats().repeats == 0


def test_neighbours_of_a_video_that_differ_still_count():
    rng = np.random.default_rng(0)
    first = lines(rng)
    neighbour = np.concatenate([first[:15], lines(rng, 15)])
    found = frames(first, neighbour, lines(rng)).without_repeats()
    assert found.repeats == 0
    assert 0.4 < found.likeness[0, 1] < 0.75 and found.likeness[0, 2] < 0.3
    assert (found.likeness == found.likeness.T).all() and (np.diag(found.likeness) == 1).all()
