"""The figure of an estimated lens."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from lib.camera.models import Fisheye
from lib.dataset import image_files
from lib.diagnostics.explore import lens_figure
from lib.target.lens import FrameEdges, LensEstimate


@pytest.fixture
def estimate(tmp_path):
    image_files.write_png(tmp_path / "frame.png", np.full((90, 160, 3), 90, np.uint8))
    points = np.linspace((20.0, 20.0), (60.0, 70.0), 10) + np.arange(5)[:, None, None]
    frame = FrameEdges(tmp_path / "frame.png", points, np.array([0, 1, 2, 3, 0]), np.array([1.0, 1, 1, 1, 0]))
    return LensEstimate(Fisheye.from_fov((160, 90), 2.0), 5.0, 1.0, 0.8, "", (frame,) * 2)


def test_each_direction_has_its_colour_and_the_legend_explains_it(estimate):
    figure = lens_figure(estimate)
    assert len(figure.axes) == 4
    assert [line.get_color() for line in figure.axes[0].lines] == ["red", "green", "blue", "yellow", "grey"]
    legend = {
        text.get_text(): line.get_color()
        for text, line in zip(figure.legends[0].get_texts(), figure.legends[0].get_lines(), strict=True)
    }
    assert legend == {
        "vertical": "red",
        "along the street": "green",
        "across the street": "blue",
        "any other direction": "yellow",
        "outlier": "grey",
    }
    plt.close(figure)


def test_an_estimate_without_edges_can_be_shown(estimate):
    empty = FrameEdges(estimate.shown[0].path, np.empty((0, 10, 2)), np.empty(0, int), np.empty(0))
    figure = lens_figure(LensEstimate(estimate.camera, 5.0, 1.0, 0.0, "", (empty,)))
    assert not figure.axes[0].lines
    plt.close(figure)
