"""Rectified views: virtual pinhole cameras behind the target's lens, whose predictions return to its image."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lib.camera.models import Camera, Pinhole
from lib.camera.remap import Remap, build_remap, build_table, covered, rotation

FOV_RAD = (1.4, 1.75)
"""Range of a view's horizontal field of view; a wider pinhole stretches its sides too much."""
MAX_ELEVATION_RAD = 0.7
"""Largest angle that a view reaches above and below the axis."""
_FOV_SHARE = 1.25  # of an even share of the lens's field of view, so that views overlap


@dataclass(frozen=True, eq=False)
class View:
    """A virtual pinhole camera behind the lens, whose image ``remap`` reads from the lens's image."""

    remap: Remap
    pixels: np.ndarray
    """View pixel (x, y) of each pixel of the lens's image, ``float32 (H, W, 2)``; NaN outside the view."""
    weight: np.ndarray
    """``float32 (H, W)``, 1 in the view's centre, falling to 0 at its border and outside."""

    def to_lens_image(self, probabilities: Tensor) -> Tensor:
        """Resample ``(N, classes, h, w)`` of the view to ``(N, classes, H, W)`` of the lens's image, weighted."""
        height, width = probabilities.shape[2:]
        grid = np.nan_to_num(self.pixels) * (2 / np.array([width - 1, height - 1])) - 1
        grid = torch.from_numpy(np.float32(grid)).to(probabilities.device).expand(len(probabilities), -1, -1, -1)
        resampled = F.grid_sample(probabilities, grid, padding_mode="border", align_corners=True)
        return resampled * torch.from_numpy(self.weight).to(resampled)


@lru_cache(maxsize=8)
def rectified_views(lens: Camera, count: int, limits: tuple[float, float, float, float]) -> tuple[View, ...]:
    """Divide a lens's field of view among pinhole cameras, side by side, with about its central resolution.

    ``lens`` has the size of the images; ``limits`` are its :func:`visible_angles`.
    """
    left, right, top, bottom = limits
    fov = float(np.clip(_FOV_SHARE * (left + right) / count, *FOV_RAD))
    spread = max(0.0, left + right - fov)  # between the axes of the outer views
    yaws = np.linspace(-spread / 2, spread / 2, count) + (right - left) / 2
    pixels = lens.project([[0, 0, 1.0], [0, 1e-3, 1.0]])
    focal = float(np.hypot(*(pixels[1] - pixels[0]))) / 1e-3
    up, down = (np.tan(min(angle, MAX_ELEVATION_RAD)) for angle in (top, bottom))
    width, height = max(2, round(2 * focal * np.tan(fov / 2))), max(2, round(focal * (up + down)))
    camera = Pinhole(width, height, focal, focal, (width - 1) / 2, focal * up - 0.5)
    size, views = np.array([width, height]), []
    for turn in (rotation(yaw=yaw) for yaw in yaws):
        pixels = build_table(lens, camera, turn.T)
        # Distance from the border, in shares of the way to the centre, so that views pass into one another.
        distance = np.minimum(pixels + 0.5, size - 0.5 - pixels) / (size / 2)
        weight = np.where(covered(pixels), np.float32(distance.min(axis=-1)).clip(0, 1), np.float32(0))
        views.append(View(build_remap(camera, lens, turn), pixels, weight))
    return tuple(views)


def visible_angles(lens: Camera, overlay: np.ndarray) -> tuple[float, float, float, float]:
    """Return the angles (rad) between axis and overlay, ``bool (H, W)``: to the left, right, top and bottom."""
    lens, visible = lens.scaled(overlay.shape[::-1]), ~overlay
    row = int(np.clip(round(lens.cy), 0, lens.height - 1))
    column = int(np.clip(round(lens.cx), 0, lens.width - 1))
    across, along = (
        np.flatnonzero(line)[[0, -1]] if line.any() else (0, len(line) - 1)
        for line in (visible[row], visible[:, column])
    )
    ends = [(across[0], row), (across[1], row), (column, along[0]), (column, along[1])]
    rays = lens.unproject(np.array(ends, dtype=float))
    angles = np.arctan2(np.hypot(rays[:, 0], rays[:, 1]), rays[:, 2])
    return tuple(np.nan_to_num(angles, nan=FOV_RAD[0] / 2).tolist())
