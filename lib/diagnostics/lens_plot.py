"""Figure of an estimated lens: frames with their edges, beside the undistorted frames."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lib.camera.models import Pinhole
from lib.camera.remap import build_remap
from lib.dataset.image_files import read_image
from lib.target.lens import LensEstimate
from lib.target.plumb_line import DIRECTIONS, INLIER_WEIGHT

COLOURS = ("red", "green", "blue", "yellow")
"""Colours of edges, by direction."""
OUTLIER_COLOUR = "grey"
_LARGEST_FOV_RAD = np.radians(110)  # of the undistorted frame, the middle of the view


def lens_figure(estimate: LensEstimate) -> Figure:
    """Plot frames and their undistorted versions, edges in the colour of the street's direction they follow."""
    camera = estimate.camera
    sides = camera.unproject([[0.0, camera.cy], [camera.width - 1.0, camera.cy]])
    angles = np.arctan2(np.hypot(sides[:, 0], sides[:, 1]), sides[:, 2])
    largest = np.nanmin(angles) if np.isfinite(angles).any() else np.inf
    half = float(np.clip(largest, 0.2, _LARGEST_FOV_RAD / 2))
    flat = Pinhole.from_fov((camera.width, camera.height), 2 * half)
    remap = build_remap(flat, camera)
    rows = max(len(estimate.shown), 1)
    figure, axes = plt.subplots(rows, 2, figsize=(14, 4 * rows + 0.5), squeeze=False, layout="constrained")
    axes[0, 0].set_title("frame")
    axes[0, 1].set_title(f"undistorted (confidence {estimate.confidence:.2f})")
    for (left, right), frame in zip(axes, estimate.shown, strict=False):
        image = read_image(frame.path)
        left.imshow(image)
        right.imshow(remap.image(image))
        undistorted = flat.project(camera.unproject(frame.points))
        for edge, line, kind, weight in zip(frame.points, undistorted, frame.kind, frame.weight, strict=True):
            colour = COLOURS[kind] if weight > INLIER_WEIGHT else OUTLIER_COLOUR
            left.plot(*edge.T, color=colour, linewidth=0.8)
            if np.isfinite(line).all():
                right.plot(*line[[0, -1]].T, color=colour, linewidth=0.8)
        right.set(xlim=(-0.5, flat.width - 0.5), ylim=(flat.height - 0.5, -0.5))
    for axis in axes.flat:
        axis.set_axis_off()
    lines = zip((*COLOURS, OUTLIER_COLOUR), (*DIRECTIONS, "outlier"), strict=True)
    handles = [Line2D([], [], color=colour, label=label) for colour, label in lines]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure
