"""Pictures for the notebooks and the result folders: labels over images, sheets, curves, bars."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from lib.dataset.classes import CLASSES_WITH_BACKGROUND, PALETTE


def colour_label(label: np.ndarray) -> np.ndarray:
    """Class ids ``uint8 (H, W)`` as ``uint8 (H, W, 3)`` RGB; ids outside the palette (IGNORE) are white."""
    table = np.full((256, 3), 255, dtype=np.uint8)
    table[: len(PALETTE)] = PALETTE
    return table[label]


def blend_label(image: np.ndarray, label: np.ndarray, opacity: float = 0.55) -> np.ndarray:
    """``uint8 (H, W, 3)``: the label's colours laid over the image."""
    return (image * (1 - opacity) + colour_label(label) * opacity).round().astype(np.uint8)


def legend() -> list[Patch]:
    """A handle per class for ``figure.legend(handles=...)``."""
    return [Patch(color=c / 255, label=n) for c, n in zip(PALETTE, CLASSES_WITH_BACKGROUND, strict=True)]


def sheet(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], width: float = 4.5) -> Figure:
    """Images in rows, a title over each column, the classes' colours below.

    Args:
        rows: per row one image per title; ``uint8 (H, W, 3)``, or any ``(H, W)`` array drawn as a heat map.
        titles: one per column.
        width: of a column, in inches.
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
    figure.legend(handles=legend(), loc="outside lower center", ncols=7, frameon=False, fontsize="small")
    return figure


def curves(scalars: dict[str, tuple[Sequence[float], Sequence[float]]]) -> Figure:
    """One panel per scalar: name to (iterations, values)."""
    figure, axes = plt.subplots(1, len(scalars), figsize=(4.5 * len(scalars), 3), squeeze=False, layout="constrained")
    for axis, (name, (steps, values)) in zip(axes[0], scalars.items(), strict=True):
        axis.plot(steps, values, marker="o" if len(steps) < 20 else None)
        axis.set(title=name, xlabel="iteration")
        axis.grid(alpha=0.3)
    return figure


def class_bars(shares: Sequence[float], title: str) -> Figure:
    """Bars in the classes' colours; ``shares`` in 0-1, in the order of the class ids."""
    names = CLASSES_WITH_BACKGROUND[: len(shares)]
    figure, axis = plt.subplots(figsize=(9, 3), layout="constrained")
    axis.bar(names, np.asarray(shares) * 100, color=PALETTE[: len(shares)] / 255, edgecolor="black", linewidth=0.5)
    axis.set(title=title, ylabel="% of pixels", yscale="symlog")
    axis.tick_params(axis="x", rotation=35)
    return figure
