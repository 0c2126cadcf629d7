"""Views of the augmentation for notebook 01: mean frame, overlays, lens, class layout, sliders."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lib.camera.models import Pinhole
from lib.camera.remap import build_remap
from lib.dataset import image_files, layout
from lib.dataset.classes import CLASSES, CLASSES_WITH_BACKGROUND
from lib.diagnostics import plots
from lib.parallel import evenly_spaced
from lib.synthesis.params import RANGES, AugmentParams
from lib.synthesis.target_camera import TargetCamera
from lib.target.lens import LensEstimate
from lib.target.plumb_line import DIRECTIONS, INLIER_WEIGHT

COLOURS = ("red", "green", "blue", "yellow")
"""Colours of edges, by direction."""
OUTLIER_COLOUR = "grey"
_LARGEST_FOV_RAD = np.radians(110)  # of the undistorted frame, the middle of the view
_FRAMES = 32  # frames that are read at most
_SLIDERS = ("fov", "zoom", "k1_offset", "yaw", "pitch", "roll", "right", "down", "forward", "frame", "blur", "noise")
_STEPS = 40  # of a slider


def origin(item: layout.Item, data: str | Path) -> layout.Item:
    """Return the source image of the data set from which an augmented item was made."""
    items = {item.id: item for split in ("train_source", "val_source") for item in layout.read_split(data, split)}
    return items.get(item.id) or items[item.id.rpartition("_")[0]]


def mean_frame(paths: Sequence[str | Path]) -> np.ndarray:
    """Return the mean of at most 32 images of one size, ``uint8 (H, W, 3)``."""
    frames = [image_files.read_image(path) for path in evenly_spaced(paths, _FRAMES)]
    return np.mean(frames, axis=0).round().astype(np.uint8)


def overlay_rows(target: TargetCamera, paths: Sequence[str | Path]) -> list[list[np.ndarray]]:
    """Return, for each overlay of the target, its image and its mask over the mean of the frames that show it."""
    shown = [(path, target.match_overlay(image_files.read_image(path))) for path in evenly_spaced(paths, _FRAMES)]
    rows = []
    for overlay in target.overlays:
        frames, mask = [path for path, match in shown if match is overlay], overlay.mask[..., None]
        mean = mean_frame(frames) if frames else overlay.image
        marked = np.where(mask, 0.4 * mean + 0.6 * np.array([255, 0, 120]), mean).astype(np.uint8)
        rows.append([np.where(mask, overlay.image, 0).astype(np.uint8), marked])
    return rows


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
        image = image_files.read_image(frame.path)
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


def class_layout(labels: Iterable[np.ndarray], size: tuple[int, int] = (64, 36)) -> np.ndarray:
    """Return the share of the labels that show each class at each place, ``float32 (13, H, W)`` of (width, height)."""
    ids = range(len(CLASSES_WITH_BACKGROUND))
    shares = [
        [cv2.resize((label == class_id).astype(np.float32), size, interpolation=cv2.INTER_AREA) for class_id in ids]
        for label in labels
    ]
    return np.mean(shares, axis=0)


def layout_difference(first: np.ndarray, second: np.ndarray, title: str) -> Figure:
    """Draw a panel per scored class: ``first`` minus ``second``, both from :func:`class_layout`."""
    figure, axes = plt.subplots(3, 4, figsize=(12, 6), layout="constrained")
    for axis, name, a, b in zip(axes.flat, CLASSES, first, second, strict=False):
        panel = axis.imshow(a - b, cmap="RdBu", vmin=-0.5, vmax=0.5)
        axis.set_title(f"{name} {a.mean():.1%} / {b.mean():.1%}", fontsize="small")
        axis.set_axis_off()
    figure.colorbar(panel, ax=axes, label="share of the images, first minus second")
    figure.suptitle(title)
    return figure


def sliders(folder: str | Path, items: Sequence[layout.Item], width: int = 960):
    """Return widgets that transform a source image and its label whenever a slider moves.

    ``folder`` holds the target camera, ``items`` are labelled; ``width`` is that of image and label in pixels.
    """
    import ipywidgets as widgets

    target = TargetCamera.read(folder)
    target = target.scaled((width // 2, round(width / 2 * target.size[1] / target.size[0])))
    neutral, picture = AugmentParams.neutral(), widgets.Image(format="png")
    index = widgets.IntSlider(0, 0, len(items) - 1, description="image")
    controls = {}
    for name in (*_SLIDERS, *(("overlay",) if target.more_overlays else ())):
        low, high = RANGES[name]
        limits = dict(min=low, max=high, step=(high - low) / _STEPS)
        controls[name] = widgets.FloatSlider(getattr(neutral, name), **limits, description=name, readout_format=".3f")

    def redraw(_=None) -> None:
        item, params = items[index.value], {name: control.value for name, control in controls.items()}
        pair = image_files.read_image(item.image), image_files.read_label(item.label)
        image, label = target.transform(*pair, AugmentParams.neutral(**params))
        both = np.hstack([image, plots.blend_label(image, label)])
        picture.value = cv2.imencode(".png", both[..., ::-1])[1].tobytes()

    for control in (index, *controls.values()):
        control.observe(redraw, names="value")
    redraw()
    columns = widgets.Layout(grid_template_columns="repeat(3, 320px)")
    return widgets.VBox([widgets.GridBox([index, *controls.values()], layout=columns), picture])
