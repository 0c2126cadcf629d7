"""Textures: tiling noise, palettes, and the materials that several objects share.

A material's random choices are drawn once; its colour depends on the position on the solid alone, so that all cameras
see the same surface. Colours are linear RGB. The palettes of all classes overlap: colour alone must not tell the class.
"""

import numpy as np

from lib.sample.solids import Material

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
"""Colours of foliage in all seasons, and of some clothes."""

METALS = (
    (0.3, 0.31, 0.32),
    (0.12, 0.12, 0.13),
    (0.03, 0.035, 0.03),
    (0.2, 0.14, 0.09),
    (0.05, 0.09, 0.06),
    (0.5, 0.5, 0.48),
)
"""Colours of poles, posts and bars."""

_CELLS = 512


def _white(cells: int) -> np.ndarray:
    return np.random.default_rng(cells).random((cells, cells), dtype=np.float32)


def _fractal() -> np.ndarray:
    """Return tiling fractal noise, ``float32 (_CELLS, _CELLS)``, roughly uniform in 0-1."""
    total = np.zeros((_CELLS, _CELLS), dtype=np.float32)
    for octave in range(2, 9):
        cells = 2**octave
        position = np.arange(_CELLS, dtype=np.float32) * cells / _CELLS
        low, part = position.astype(int), position % 1
        part = part * part * (3 - 2 * part)
        grid = _white(cells)
        rows = grid[low] * (1 - part[:, None]) + grid[(low + 1) % cells] * part[:, None]
        total += (rows[:, low] * (1 - part) + rows[:, (low + 1) % cells] * part) * 0.6**octave
    low, high = np.quantile(total, (0.02, 0.98))
    return np.clip((total - low) / (high - low), 0, 1)


_FRACTAL, _WHITE = _fractal(), _white(256)


def noise(u: np.ndarray, v: np.ndarray, size: float) -> np.ndarray:
    """Return fractal noise in 0-1 at (u, v) in metres, of their shape; it repeats every ``size`` metres."""
    u, v = (np.floor(c * np.float32(_CELLS / size)).astype(np.int32) & (_CELLS - 1) for c in (u, v))
    return _FRACTAL.ravel()[v * _CELLS + u]


def cell_noise(i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Return a fixed random number in 0-1 for each integer cell (i, j)."""
    i, j = (np.floor(c).astype(np.int32) & 255 for c in (i, j))
    return _WHITE.ravel()[j * 256 + i]


def pick(rng, colours) -> np.ndarray:
    """Return one of ``colours`` with random changes of brightness and hue, ``float64 (3,)``."""
    return np.array(colours[rng.integers(len(colours))]) * rng.uniform(0.75, 1.3) * rng.uniform(0.9, 1.1, 3)


def tint(grey: np.ndarray, colour) -> np.ndarray:
    """Return brightness ``(N,)`` times a colour, ``(N, 3)``."""
    return grey[:, None] * np.asarray(colour, dtype=np.float32)


def blend(base: np.ndarray, colour, where: np.ndarray) -> np.ndarray:
    """Return ``base (N, 3)`` mixed with ``colour``, ``(3,)`` or ``(N, 3)``, by the weights ``where``, bool or 0-1."""
    return base + (np.asarray(colour, np.float32) - base) * where.astype(np.float32)[:, None]


def unfold(p: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two coordinates along the surface of points ``p (3, N)`` with normals ``n (3, N)``."""
    return np.where(np.abs(n[0]) > 0.7, p[2], p[0]), np.where(np.abs(n[1]) > 0.7, p[2], p[1])


def plain(colour, rough: float = 0.2, grain: float = 3.0) -> Material:
    """Return one colour of varying brightness: by ``rough``, in a pattern that repeats every ``grain`` metres."""

    def material(p, n):
        return tint(1 - rough + 2 * rough * noise(*unfold(p, n), grain), colour)

    return material


def striped(colour, other, width: float) -> Material:
    """Return rings of two colours around an upright solid, each ``width`` metres high."""

    def material(p, n):
        return blend(tint(np.ones_like(p[0]), colour), other, p[1] % (2 * width) < width)

    return material


def bricks(u: np.ndarray, v: np.ndarray, size: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return mortar (bool) and a random number per stone, for stones of ``size`` = (length, height) in metres."""
    row = np.floor(v / np.float32(size[1]))
    column = u / np.float32(size[0]) + 0.5 * (row % 2)
    mortar = (column % 1 < 0.05) | (v / np.float32(size[1]) % 1 < 0.12)
    return mortar, cell_noise(column, row)


def masonry(rng, colour, size=(0.45, 0.16)) -> Material:
    """Return a wall of stones or bricks in shades of one colour."""
    joint = rng.uniform(0.15, 0.5)

    def material(p, n):
        u, v = unfold(p + 50, n)
        mortar, tone = bricks(u, v, size)
        base = tint(0.7 + 0.5 * tone + 0.3 * noise(u, v, 7), colour)
        return blend(base, (joint,) * 3, mortar * 0.6)

    return material


def paving(rng) -> Material:
    """Return a sidewalk of slabs, setts or tarmac, with a lighter kerb at its sides."""
    grey = rng.uniform(0.13, 0.42) * (1 + rng.uniform(-0.12, 0.12, 3))
    size = (rng.uniform(0.35, 1.0), rng.uniform(0.35, 0.7))
    joints, kerb = (rng.random() < 0.75) * rng.uniform(0.15, 0.5), rng.uniform(0.2, 0.5)

    def material(p, n):
        mortar, tone = bricks(p[2], p[0], size)
        base = tint(0.8 + 0.2 * tone * (joints > 0) + 0.4 * (noise(p[0], p[2], 11) - 0.5), grey)
        base = blend(base, grey * 0.4, mortar * joints)
        return blend(base, (kerb,) * 3, n[1] < 0.7)

    return material
