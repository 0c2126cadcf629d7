"""What notebook 01 shows beyond single images: mean frame, where in the frame each class occurs, and sliders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from lib.dataset import image_files, layout
from lib.dataset.classes import CLASSES, CLASSES_WITH_BACKGROUND
from lib.diagnostics import plots
from lib.parallel import evenly_spaced
from lib.run import Run
from lib.stages.augment import SPLITS
from lib.stages.infer import Predictor
from lib.synthesis import params as params_module
from lib.synthesis import target_camera

_LAYOUT = (64, 36)
_FRAMES = 32
_SLIDERS = ("fov", "zoom", "k1_offset", "yaw", "pitch", "roll", "right", "down", "forward", "frame", "blur", "noise")
_STEPS = 40


def origin(item: layout.Item, data: str | Path) -> layout.Item:
    """The source image that ``item`` of an augmented set was made of; ``data`` is the set it came from."""
    known = {found.id: found for split in SPLITS for found in layout.read_split(data, split)}
    return known.get(item.id) or known[item.id.rpartition("_")[0]]


def mean_frame(paths: Sequence[str | Path]) -> np.ndarray:
    """``uint8 (H, W, 3)``: the mean of at most 32 of these images, which have one size."""
    frames = evenly_spaced(paths, _FRAMES)
    return (
        (sum(image_files.read_image(path).astype(np.float32) for path in frames) / len(frames)).round().astype(np.uint8)
    )


def overlay_rows(target: target_camera.TargetCamera, paths: Sequence[str | Path]) -> list[list[np.ndarray]]:
    """Of each of the target's surroundings the plate, and the mask over the mean of the frames that show it.

    Args:
        target: the target camera.
        paths: its frames; at most 32 are read.
    """
    shown = [(path, target.match_overlay(image_files.read_image(path))) for path in evenly_spaced(paths, _FRAMES)]
    rows = []
    for kind in target.overlays:
        frames, static = [path for path, own in shown if own is kind], kind.mask[..., None]
        mean = mean_frame(frames) if frames else kind.image
        marked = np.where(static, 0.4 * mean + 0.6 * np.array([255, 0, 120]), mean).astype(np.uint8)
        rows.append([np.where(static, kind.image, 0).astype(np.uint8), marked])
    return rows


def class_layout(labels: Iterable[np.ndarray]) -> np.ndarray:
    """How often each class occurs where: ``float32 (13, 36, 64)``, shares of the labelled images.

    Args:
        labels: ``uint8 (H, W)`` class ids, of any size.
    """
    ids = np.arange(len(CLASSES_WITH_BACKGROUND))[:, None, None]
    shares = [
        np.stack(
            [cv2.resize(plane, _LAYOUT, interpolation=cv2.INTER_AREA) for plane in (label == ids).astype(np.float32)]
        )
        for label in labels
    ]
    return np.mean(shares, axis=0)


def predicted(out: str | Path, paths: Sequence[str | Path], device: str = "cpu") -> list[np.ndarray] | None:
    """What the run's own network sees in at most 32 images, ``uint8 (H, W)`` each; None before it is trained."""
    checkpoint = Run(out).best_checkpoint()
    if checkpoint is None:
        return None
    predictor = Predictor(Path(out) / "train" / "config.py", checkpoint, device=device)
    return [predictor(image_files.read_image(path)) for path in evenly_spaced(paths, _FRAMES)]


def layout_difference(first: np.ndarray, second: np.ndarray, title: str) -> Figure:
    """A panel per scored class of ``first`` minus ``second``, both from :func:`class_layout`."""
    figure, axes = plt.subplots(3, 4, figsize=(12, 6), layout="constrained")
    for axis, name, a, b in zip(axes.flat, CLASSES, first, second, strict=False):
        drawn = axis.imshow(a - b, cmap="RdBu", vmin=-0.5, vmax=0.5)
        axis.set_title(f"{name} {a.mean():.1%} / {b.mean():.1%}", fontsize="small")
        axis.set_axis_off()
    figure.colorbar(drawn, ax=axes, label="share of the images, first minus second")
    figure.suptitle(title)
    return figure


def sliders(folder: str | Path, items: Sequence[layout.Item], width: int = 960):
    """Widgets that bend a source image anew whenever a slider moves: the image, and its label laid over it.

    Args:
        folder: an augmented folder, which knows the target camera.
        items: labelled source images.
        width: of the two pictures side by side, in pixels.
    """
    import ipywidgets as widgets

    target = target_camera.TargetCamera.read(folder)
    target = target.scaled((width // 2, round(width / 2 * target.size[1] / target.size[0])))
    chosen = widgets.IntSlider(0, 0, len(items) - 1, description="image")
    still = params_module.AugmentParams.neutral()
    controls = {}
    for name in (*_SLIDERS, *(("overlay",) if target.more_overlays else ())):
        low, high = params_module.RANGES[name]
        controls[name] = widgets.FloatSlider(
            getattr(still, name), min=low, max=high, step=(high - low) / _STEPS, description=name, readout_format=".3f"
        )
    picture = widgets.Image(format="png")

    def redraw(_=None) -> None:
        item = items[chosen.value]
        params = params_module.AugmentParams.neutral(**{name: control.value for name, control in controls.items()})
        image, label = target.transform(image_files.read_image(item.image), image_files.read_label(item.label), params)
        both = np.hstack([image, plots.blend_label(image, label)])
        picture.value = cv2.imencode(".png", both[..., ::-1])[1].tobytes()

    for control in (chosen, *controls.values()):
        control.observe(redraw, names="value")
    redraw()
    grid = widgets.GridBox(
        [chosen, *controls.values()], layout=widgets.Layout(grid_template_columns="repeat(3, 320px)")
    )
    return widgets.VBox([grid, picture])
