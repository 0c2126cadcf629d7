"""Plants of a street: trees, bushes, and the foliage of hedges and lawns.

Each object stands around the origin of the ground; :func:`lib.sample.solids.place` moves it.
"""

import numpy as np

from lib.dataset.classes import NATURE
from lib.sample.solids import Cutout, Material, Solid, ball, rod
from lib.sample.textures import LEAVES, blend, noise, pick, plain, tint, unfold


def foliage(rng, clump: float = 2.5) -> Material:
    """Return the leaves of a tree, hedge or lawn: light and dark at two scales (``clump``: metres), partly withered."""
    colour = pick(rng, LEAVES)
    shift, dry = np.float32(rng.uniform(0, 50)), rng.uniform(0, 0.5)

    def material(p, n):
        u, v = unfold(p + shift, n)
        leaf = noise(u, v, clump) * (0.4 + 0.6 * noise(v, u, 0.3 * clump))
        base = tint(0.15 + 2.6 * leaf**1.5 * (0.6 + 0.8 * noise(v, u, 9 * clump)), colour)
        return blend(base, (0.16, 0.11, 0.05), dry * noise(u, v, 20 * clump))

    return material


def sparse_leaves(rng, clump: float) -> Cutout:
    """Return openings in a ball of leaves, more of them towards its rim; ``clump`` is their size in radii."""
    shift = np.float32(rng.uniform(0, 50))

    def keep(q, ray):
        facing = (q * ray).sum(axis=0) ** 2 / (ray * ray).sum(axis=0)
        thick = noise(*unfold(q + shift, q), clump)
        return (facing > 0.8 * thick) & (thick < 0.94)

    return keep


def tree(rng) -> list[Solid]:
    """Return a broad tree of several crowns, or a conifer of rings that narrow upwards."""
    leaf, clump = foliage(rng), rng.uniform(1.5, 3)
    bark = plain((0.12, 0.09, 0.06), 0.4, 1.5)
    if rng.random() < 0.3:
        tall, wide = rng.uniform(5, 11), rng.uniform(0.9, 1.8)
        rings = [((0, tall * (0.2 + 0.11 * i), 0), wide * (1.1 - 0.13 * i), tall * 0.14) for i in range(8)]
        crowns = [ball(NATURE, leaf, c, (r, h, r), holes=sparse_leaves(rng, clump)) for c, r, h in rings]
        return [rod(NATURE, bark, (0, 0, 0), (0, tall * 0.5, 0), 0.15), *crowns]
    stem, wide = rng.uniform(1.9, 3.6), rng.uniform(1.0, 2.4)
    solids = [rod(NATURE, bark, (0, 0, 0), (0, stem + wide, 0), rng.uniform(0.12, 0.28))]
    for _ in range(rng.integers(5, 10)):
        angle, out = rng.uniform(0, 2 * np.pi), wide * rng.uniform(0.2, 0.8)
        centre = (out * np.sin(angle), stem + wide * rng.uniform(0.5, 1.7), out * np.cos(angle))
        radii = wide * rng.uniform(0.45, 0.85) * rng.uniform(0.8, 1.2, 3)
        solids.append(ball(NATURE, leaf, centre, radii, holes=sparse_leaves(rng, clump)))
    return solids


def bush(rng) -> list[Solid]:
    """Return a bush of one to three balls of leaves."""
    leaf, solids = foliage(rng), []
    for _ in range(rng.integers(1, 4)):
        radii = rng.uniform(0.4, 1.0, 3)
        centre = (rng.uniform(-0.7, 0.7), radii[1] * 0.6, rng.uniform(-0.7, 0.7))
        solids.append(ball(NATURE, leaf, centre, radii, holes=sparse_leaves(rng, 2.5)))
    return solids
