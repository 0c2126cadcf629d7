"""Plots for the notebooks and the run folder: coloured labels, image grids, curves, class bars."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from lib.dataset.classes import CLASSES_WITH_BACKGROUND, PALETTE
from lib.files import whole_file


def colour_label(label: np.ndarray) -> np.ndarray:
    """Return the colours ``uint8 (H, W, 3)`` RGB of class ids ``uint8 (H, W)``; ids without a colour are white."""
    table = np.full((256, 3), 255, dtype=np.uint8)
    table[: len(PALETTE)] = PALETTE
    return table[label]


def blend_label(image: np.ndarray, label: np.ndarray, opacity: float = 0.55) -> np.ndarray:
    """Return the image with the label's colours over it, ``uint8 (H, W, 3)`` RGB."""
    return (image * (1 - opacity) + colour_label(label) * opacity).round().astype(np.uint8)


def write_picture(path: Path, image: np.ndarray) -> None:
    """Write an image ``uint8 (H, W, 3)`` RGB in the format of the path's suffix."""
    with whole_file(path) as temporary:
        cv2.imwrite(str(temporary), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def sheet(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], width: float = 4.5) -> Figure:
    """Draw images in rows, with a title over each column and the classes' colours below.

    Images are ``uint8 (H, W, 3)``, or any ``(H, W)`` array as a heat map; ``width`` is a column's, in inches.
    """
    height = width * max(image.shape[0] / image.shape[1] for row in rows for image in row)
    size = (width * len(titles), height * len(rows) + 1.0)
    figure, axes = plt.subplots(len(rows), len(titles), figsize=size, squeeze=False, layout="constrained")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    for line, row in zip(axes, rows, strict=True):
        for axis, image in zip(line, row, strict=True):
            axis.imshow(image)
            axis.set_axis_off()
    handles = [Patch(color=c / 255, label=n) for c, n in zip(PALETTE, CLASSES_WITH_BACKGROUND, strict=True)]
    figure.legend(handles=handles, loc="outside lower center", ncols=7, frameon=False, fontsize="small")
    return figure


def curves(scalars: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Figure:
    """Draw a panel per scalar, in the order of their names; a scalar is (iterations, values)."""
    figure, axes = plt.subplots(1, len(scalars), figsize=(4.5 * len(scalars), 3), squeeze=False, layout="constrained")
    for axis, (name, (steps, values)) in zip(axes[0], sorted(scalars.items()), strict=True):
        axis.plot(steps, values, marker="o" if len(steps) < 20 else None)
        axis.set(title=name, xlabel="iteration")
        axis.grid(alpha=0.3)
    return figure


def class_bars(shares: Sequence[float], title: str) -> Figure:
    """Draw bars in the classes' colours; ``shares`` are fractions in the order of the class ids."""
    figure, axis = plt.subplots(figsize=(9, 3), layout="constrained")
    names, colours = CLASSES_WITH_BACKGROUND[: len(shares)], PALETTE[: len(shares)] / 255
    axis.bar(names, np.asarray(shares) * 100, color=colours, edgecolor="black", linewidth=0.5)
    axis.set(title=title, ylabel="% of pixels", yscale="symlog")
    axis.tick_params(axis="x", rotation=35)
    return figure
