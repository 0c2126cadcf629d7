"""Buildings of a street: houses with their facades, and fences.

Each object stands around the origin of the ground; :func:`lib.sample.solids.place` moves it.
"""

import numpy as np

from lib.dataset.classes import CONSTRUCTION, FENCE
from lib.sample.solids import Cutout, Material, Solid, block
from lib.sample.textures import METALS, blend, cell_noise, masonry, noise, pick, plain, tint, unfold

_WALLS = (
    (0.6, 0.57, 0.5),
    (0.32, 0.32, 0.33),
    (0.16, 0.16, 0.17),
    (0.3, 0.12, 0.07),
    (0.22, 0.13, 0.08),
    (0.5, 0.38, 0.2),
    (0.28, 0.33, 0.4),
    (0.36, 0.4, 0.3),
    (0.45, 0.28, 0.22),
    (0.08, 0.1, 0.09),
)
_WOODS = ((0.24, 0.16, 0.09), (0.3, 0.28, 0.25), (0.12, 0.14, 0.07), (0.5, 0.48, 0.44), (0.3, 0.12, 0.07))
_TILES = ((0.2, 0.08, 0.05), (0.1, 0.1, 0.11), (0.22, 0.17, 0.13))


def house(rng, wide: float, deep: float) -> list[Solid]:
    """Return a house, ``wide`` along z and ``deep`` along x (metres), with a flat or pitched roof and perhaps a bay."""
    tall = rng.uniform(5.5, 9) if rng.random() < 0.45 else rng.uniform(9, 22)
    front = facade(rng, pick(rng, _WALLS), tall)
    solids = [block(CONSTRUCTION, front, (0, 0, 0), (deep, tall, wide))]
    if tall < 11:
        tiles = masonry(rng, pick(rng, _TILES), (0.4, 0.3))
        ridge = (0.97, 0.0) if rng.random() < 0.6 else (0.0, 0.97)
        solids.append(block(CONSTRUCTION, tiles, (0, tall, 0), (deep + 0.8, rng.uniform(2, 3.8), wide), taper=ridge))
        if rng.random() < 0.5:
            solids.append(block(CONSTRUCTION, front, (0, tall + 0.5, wide * 0.3), (0.9, 3.8, 0.9)))
    if rng.random() < 0.3:
        solids.append(block(CONSTRUCTION, front, (0, 0, rng.uniform(-0.3, 0.3) * wide), (deep + 1.2, tall * 0.75, 2.6)))
    return solids


def facade(rng, colour, height: float) -> Material:
    """Return a front of windows in brick or plaster, perhaps with shops below; roof and eaves are plain."""
    wall = masonry(rng, colour) if rng.random() < 0.5 else plain(colour, rng.uniform(0.1, 0.3), 9)
    pitch, storey = rng.uniform(1.6, 3.6), rng.uniform(2.8, 3.7)
    wide, high = rng.uniform(0.22, 0.44), rng.uniform(0.2, 0.34)
    frame, glass = rng.uniform(0.05, 0.8), rng.uniform(0.02, 0.12)
    shop = rng.random() < 0.45
    sign, shift = rng.uniform(0.02, 0.6, 3), rng.uniform(0, 200)

    def material(p, n):
        u, v = unfold(p, n)[0] + np.float32(shift), p[1] + np.float32(height / 2)
        base = wall(p, n)
        column, row = u / np.float32(pitch), v / np.float32(storey)
        ground = (row < 1) & shop
        dx, dy = np.abs(column % 1 - 0.5), np.abs(row % 1 - np.where(ground, 0.4, 0.52))
        half_x, half_y = np.where(ground, 0.46, wide), np.where(ground, 0.36, high)
        upright = np.abs(n[1]) < 0.7
        base = blend(base, (frame,) * 3, (dx < half_x + 0.03) & (dy < half_y + 0.03) & upright)
        lit = cell_noise(column, row + np.float32(shift))
        pane = tint(glass + 0.5 * lit**4 + 0.1 * noise(u, v, 5), (0.85, 0.95, 1.05))
        base = blend(base, pane, (dx < half_x) & (dy < half_y) & (dx > 0.012) & upright)
        return blend(base, sign, ground & (row > 0.8) & upright)

    return material


def fence(rng, long: float) -> list[Solid]:
    """Return a fence along x, ``long`` metres: bars, boards or a closed panel."""
    high, kind = rng.uniform(1.0, 1.9), rng.integers(3)
    if kind == 0:
        metal = plain(pick(rng, METALS), 0.1)
        return [block(FENCE, metal, (0, 0, 0), (long, high, 0.05), holes=bars(long * 3.2, 0.35))]
    skin = masonry(rng, pick(rng, _WOODS), (0.18, 9.0) if kind == 1 else (0.5, 0.18))
    holes = bars(long * 2.5, 0.8) if kind == 1 else None
    return [block(FENCE, skin, (0, 0, 0), (long, high, 0.06), holes=holes)]


def bars(count: float, share: float) -> Cutout:
    """Return upright bars between two rails: ``count`` per half width, with ``share`` of the width solid."""

    def keep(q, ray):
        return ((q[0] * count) % 1 < share) | (np.abs(np.abs(q[1]) - 0.8) < 0.06)

    return keep
