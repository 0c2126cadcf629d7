"""What surfaces look like: tiling noise, and the materials and cut-outs made of it.

A material maker draws its random choices once and returns a function of the place on the solid, so that a
surface looks the same from every camera. Albedos are linear, not sRGB. The palettes of all classes overlap in
greys, greens and earth colours: colour alone must not give the class away.
"""

from __future__ import annotations

import numpy as np

from lib.sample.solids import Cut, Material

PAINTS = (
    (0.65, 0.65, 0.63),
    (0.3, 0.31, 0.32),
    (0.13, 0.135, 0.14),
    (0.02, 0.02, 0.025),
    (0.05, 0.09, 0.22),
    (0.3, 0.03, 0.03),
    (0.1, 0.16, 0.06),
    (0.35, 0.28, 0.16),
    (0.15, 0.08, 0.04),
    (0.2, 0.32, 0.42),
    (0.5, 0.36, 0.05),
)
"""Colours of cars and clothes."""

LEAVES = (
    (0.1, 0.17, 0.04),
    (0.06, 0.11, 0.04),
    (0.17, 0.2, 0.06),
    (0.25, 0.15, 0.05),
    (0.12, 0.14, 0.1),
    (0.2, 0.1, 0.05),
)
"""Colours of foliage in all seasons; of some clothes as well."""

_CELLS = 512


def _white(cells: int) -> np.ndarray:
    return np.random.default_rng(cells).random((cells, cells), dtype=np.float32)


def _fractal() -> np.ndarray:
    """Tiling fractal noise, ``float32 (_CELLS, _CELLS)``, roughly uniform over 0-1."""
    total = np.zeros((_CELLS, _CELLS), dtype=np.float32)
    for octave in range(2, 9):
        cells = 2**octave
        at = np.arange(_CELLS, dtype=np.float32) * cells / _CELLS
        low, part = at.astype(int), at % 1
        part = part * part * (3 - 2 * part)
        grid = _white(cells)
        rows = grid[low] * (1 - part[:, None]) + grid[(low + 1) % cells] * part[:, None]
        total += (rows[:, low] * (1 - part) + rows[:, (low + 1) % cells] * part) * 0.6**octave
    low, high = np.quantile(total, (0.02, 0.98))
    return np.clip((total - low) / (high - low), 0, 1)


_FRACTAL, _WHITE = _fractal(), _white(256)


def noise(u: np.ndarray, v: np.ndarray, size: float) -> np.ndarray:
    """Fractal noise in 0-1, the same shape as ``u``; it repeats every ``size`` metres."""
    u, v = (np.floor(c * np.float32(_CELLS / size)).astype(np.int32) & (_CELLS - 1) for c in (u, v))
    return _FRACTAL.ravel()[v * _CELLS + u]


def dice(i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """A fixed random number in 0-1 per integer cell (i, j)."""
    i, j = (np.floor(c).astype(np.int32) & 255 for c in (i, j))
    return _WHITE.ravel()[j * 256 + i]


def picked(rng, colours) -> np.ndarray:
    """One of ``colours``, lighter or darker and a little off, ``float64 (3,)``."""
    return np.array(colours[rng.integers(len(colours))]) * rng.uniform(0.75, 1.3) * rng.uniform(0.9, 1.1, 3)


def painted(grey: np.ndarray, colour) -> np.ndarray:
    """``(N,)`` brightness times a colour, ``(N, 3)``."""
    return grey[:, None] * np.asarray(colour, dtype=np.float32)


def mixed(base: np.ndarray, colour, where: np.ndarray) -> np.ndarray:
    """``base (N, 3)`` with ``colour`` (a colour, or ``(N, 3)``) laid over it by ``where`` (bool or 0-1)."""
    return base + (np.asarray(colour, np.float32) - base) * where.astype(np.float32)[:, None]


def unfolded(p: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two coordinates of ``p (3, N)`` that run along the surface, by where its normal ``n (3, N)`` points."""
    return np.where(np.abs(n[0]) > 0.7, p[2], p[0]), np.where(np.abs(n[1]) > 0.7, p[2], p[1])


def plain(colour, rough: float = 0.2, grain: float = 3.0) -> Material:
    """One colour, unevenly: ``rough`` is how much the brightness varies, ``grain`` the pattern's metres."""

    def material(p, n):
        return painted(1 - rough + 2 * rough * noise(*unfolded(p, n), grain), colour)

    return material


def striped(colour, other, width: float) -> Material:
    """Rings of two colours around an upright thing, each ``width`` metres high."""

    def material(p, n):
        return mixed(painted(np.ones_like(p[0]), colour), other, p[1] % (2 * width) < width)

    return material


def leaves(rng, colour, clump: float = 2.5) -> Material:
    """Foliage, hedge or grass: strong light and dark at two scales, some of it withered."""
    shift, dry = np.float32(rng.uniform(0, 50)), rng.uniform(0, 0.5)

    def material(p, n):
        u, v = unfolded(p + shift, n)
        leaf = noise(u, v, clump) * (0.4 + 0.6 * noise(v, u, 0.3 * clump))
        base = painted(0.15 + 2.6 * leaf**1.5 * (0.6 + 0.8 * noise(v, u, 9 * clump)), colour)
        return mixed(base, (0.16, 0.11, 0.05), dry * noise(u, v, 20 * clump))

    return material


def ragged(rng, coarse: float) -> Cut:
    """Foliage that thins out towards a ball's rim; ``coarse`` is the clumps' size in radii."""
    shift = np.float32(rng.uniform(0, 50))

    def keep(q, ray):
        facing = (q * ray).sum(axis=0) ** 2 / (ray * ray).sum(axis=0)
        thick = noise(*unfolded(q + shift, q), coarse)
        return (facing > 0.8 * thick) & (thick < 0.94)

    return keep


def openings(across: float, solid: float) -> Cut:
    """Upright bars between two rails: ``across`` bars per half width, ``solid`` their share."""

    def keep(q, ray):
        return ((q[0] * across) % 1 < solid) | (np.abs(np.abs(q[1]) - 0.8) < 0.06)

    return keep


def polygon(corners: int, turn: float = 0.0) -> Cut:
    """A regular outline in the front (x, y) of a block; 0 corners is a disc."""

    def keep(q, ray):
        radius = np.hypot(q[0], q[1])
        if not corners:
            return radius <= 1
        angle = (np.arctan2(q[1], q[0]) - np.float32(turn)) % np.float32(2 * np.pi / corners)
        return radius * np.cos(angle - np.float32(np.pi / corners)) <= np.cos(np.pi / corners)

    return keep


def rectangle(q, ray):
    """The front of a block as it is; the cut for outlines that need none."""
    return np.maximum(np.abs(q[0]), np.abs(q[1])) <= 1.001


def bricks(u: np.ndarray, v: np.ndarray, size: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """(mortar: bool, a random number per stone) of courses of stones ``size`` = (long, high) metres."""
    row = np.floor(v / np.float32(size[1]))
    at = u / np.float32(size[0]) + 0.5 * (row % 2)
    mortar = (at % 1 < 0.05) | (v / np.float32(size[1]) % 1 < 0.12)
    return mortar, dice(at, row)


def masonry(rng, colour, size=(0.45, 0.16)) -> Material:
    """A wall of stones or bricks around one colour."""
    joint = rng.uniform(0.15, 0.5)

    def material(p, n):
        u, v = unfolded(p + 50, n)
        mortar, tone = bricks(u, v, size)
        base = painted(0.7 + 0.5 * tone + 0.3 * noise(u, v, 7), colour)
        return mixed(base, (joint,) * 3, mortar * 0.6)

    return material


def facade(rng, colour, height: float) -> Material:
    """A front of windows in brick, plaster or panels, at times with shops below; roof and eaves are plain."""
    wall = masonry(rng, colour) if rng.random() < 0.5 else plain(colour, rng.uniform(0.1, 0.3), 9)
    pitch, storey = rng.uniform(1.6, 3.6), rng.uniform(2.8, 3.7)
    wide, high = rng.uniform(0.22, 0.44), rng.uniform(0.2, 0.34)
    frame, glass = rng.uniform(0.05, 0.8), rng.uniform(0.02, 0.12)
    shop = rng.random() < 0.45
    sign, shift = rng.uniform(0.02, 0.6, 3), rng.uniform(0, 200)

    def material(p, n):
        u, v = unfolded(p, n)[0] + np.float32(shift), p[1] + np.float32(height / 2)
        base = wall(p, n)
        column, row = u / np.float32(pitch), v / np.float32(storey)
        ground = (row < 1) & shop
        dx, dy = np.abs(column % 1 - 0.5), np.abs(row % 1 - np.where(ground, 0.4, 0.52))
        half_x, half_y = np.where(ground, 0.46, wide), np.where(ground, 0.36, high)
        upright = np.abs(n[1]) < 0.7
        base = mixed(base, (frame,) * 3, (dx < half_x + 0.03) & (dy < half_y + 0.03) & upright)
        lit = dice(column, row + np.float32(shift))
        pane = painted(glass + 0.5 * lit**4 + 0.1 * noise(u, v, 5), (0.85, 0.95, 1.05))
        base = mixed(base, pane, (dx < half_x) & (dy < half_y) & (dx > 0.012) & upright)
        return mixed(base, sign, ground & (row > 0.8) & upright)

    return material


def paving(rng) -> Material:
    """Sidewalk: slabs, setts or tarmac, with a lighter kerb where the side shows."""
    grey = rng.uniform(0.13, 0.42) * (1 + rng.uniform(-0.12, 0.12, 3))
    size = (rng.uniform(0.35, 1.0), rng.uniform(0.35, 0.7))
    joints, kerb = (rng.random() < 0.75) * rng.uniform(0.15, 0.5), rng.uniform(0.2, 0.5)

    def material(p, n):
        mortar, tone = bricks(p[2], p[0], size)
        base = painted(0.8 + 0.2 * tone * (joints > 0) + 0.4 * (noise(p[0], p[2], 11) - 0.5), grey)
        base = mixed(base, grey * 0.4, mortar * joints)
        return mixed(base, (kerb,) * 3, n[1] < 0.7)

    return material
