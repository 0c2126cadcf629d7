"""What stands along a street: trees, poles, lights, signs, fences, houses.

Each function draws one thing around the origin of the ground, facing +z, as a list of solids;
:func:`lib.sample.solids.placed` sets it down.
"""

from __future__ import annotations

import numpy as np

from lib.dataset.classes import CONSTRUCTION, FENCE, NATURE, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN
from lib.sample.solids import Material, Solid, ball, block, limb
from lib.sample.textures import (
    LEAVES,
    facade,
    leaves,
    masonry,
    mixed,
    noise,
    openings,
    painted,
    picked,
    plain,
    polygon,
    ragged,
    rectangle,
    striped,
)

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
_METALS = (
    (0.3, 0.31, 0.32),
    (0.12, 0.12, 0.13),
    (0.03, 0.035, 0.03),
    (0.2, 0.14, 0.09),
    (0.05, 0.09, 0.06),
    (0.5, 0.5, 0.48),
)
_WOODS = ((0.24, 0.16, 0.09), (0.3, 0.28, 0.25), (0.12, 0.14, 0.07), (0.5, 0.48, 0.44), (0.3, 0.12, 0.07))
_TILES = ((0.2, 0.08, 0.05), (0.1, 0.1, 0.11), (0.22, 0.17, 0.13))


def foliage(rng, clump: float = 2.5) -> Material:
    """The leaves of one tree, hedge or lawn, in any season."""
    return leaves(rng, picked(rng, LEAVES), clump)


def tree(rng) -> list[Solid]:
    """A broad tree of several crowns, or a slender one of rings that narrow upwards."""
    leaf, clump = foliage(rng), rng.uniform(1.5, 3)
    bark = plain((0.12, 0.09, 0.06), 0.4, 1.5)
    if rng.random() < 0.3:
        tall, wide = rng.uniform(5, 11), rng.uniform(0.9, 1.8)
        rings = [((0, tall * (0.2 + 0.11 * i), 0), wide * (1.1 - 0.13 * i), tall * 0.14) for i in range(8)]
        crowns = [ball(NATURE, leaf, c, (r, h, r), holes=ragged(rng, clump)) for c, r, h in rings]
        return [limb(NATURE, bark, (0, 0, 0), (0, tall * 0.5, 0), 0.15), *crowns]
    stem, wide = rng.uniform(1.9, 3.6), rng.uniform(1.0, 2.4)
    solids = [limb(NATURE, bark, (0, 0, 0), (0, stem + wide, 0), rng.uniform(0.12, 0.28))]
    for _ in range(rng.integers(5, 10)):
        angle, out = rng.uniform(0, 2 * np.pi), wide * rng.uniform(0.2, 0.8)
        centre = (out * np.sin(angle), stem + wide * rng.uniform(0.5, 1.7), out * np.cos(angle))
        radii = wide * rng.uniform(0.45, 0.85) * rng.uniform(0.8, 1.2, 3)
        solids.append(ball(NATURE, leaf, centre, radii, holes=ragged(rng, clump)))
    return solids


def bush(rng) -> list[Solid]:
    """A few low balls of leaves."""
    leaf, solids = foliage(rng), []
    for _ in range(rng.integers(1, 4)):
        radii = rng.uniform(0.4, 1.0, 3)
        centre = (rng.uniform(-0.7, 0.7), radii[1] * 0.6, rng.uniform(-0.7, 0.7))
        solids.append(ball(NATURE, leaf, centre, radii, holes=ragged(rng, 2.5)))
    return solids


def lamp(rng, road: int) -> list[Solid]:
    """A street lamp with its arm over the road, which lies towards ``road`` (-1 or 1) along x; or a wooden post."""
    metal, tall = plain(picked(rng, _METALS), 0.15), rng.uniform(5.5, 9)
    thick = rng.uniform(0.08, 0.14)
    if rng.random() < 0.25:
        wood = plain((0.2, 0.14, 0.09), 0.35, 1.5)
        beam = limb(POLE, wood, (-0.9, tall - 0.6, 0), (0.9, tall - 0.6, 0), 0.07)
        return [limb(POLE, wood, (0, 0, 0), (0, tall, 0), 0.16), beam]
    return [
        limb(POLE, metal, (0, 0, 0), (0, 1.1, 0), thick * 1.5),
        limb(POLE, metal, (0, 1, 0), (0, tall, 0), thick),
        limb(POLE, metal, (0, tall - 0.05, 0), (road * 1.7, tall + 0.3, 0), 0.05),
        block(POLE, metal, (road * 1.9, tall + 0.24, 0), (0.8, 0.14, 0.3)),
    ]


def bollard(rng) -> list[Solid]:
    """A short post, at times ringed in red and white."""
    tall = rng.uniform(0.8, 1.2)
    ringed = striped((0.6, 0.6, 0.58), (0.4, 0.04, 0.03), 0.2)
    return [limb(POLE, ringed if rng.random() < 0.4 else plain(picked(rng, _METALS)), (0, 0, 0), (0, tall, 0), 0.08)]


def traffic_light(rng, road: int) -> list[Solid]:
    """Lamps towards -z on a pole; some poles carry a second set over the road, towards ``road`` along x."""
    metal, lit = plain(picked(rng, _METALS), 0.15), rng.integers(3)
    housing = _lamps(lit, (0.02, 0.022, 0.02) if rng.random() < 0.7 else (0.35, 0.26, 0.04))
    low = rng.uniform(2.2, 2.7)
    solids = [
        limb(POLE, metal, (0, 0, 0), (0, low + 0.6, 0), 0.08),
        block(TRAFFIC_LIGHT, housing, (0, low, -0.22), (0.44, 1.2, 0.32)),
    ]
    if rng.random() < 0.45:
        reach = road * rng.uniform(2.6, 4.2)
        solids += [
            limb(POLE, metal, (0, 0, 0), (0, 5.6, 0), 0.11),
            limb(POLE, metal, (0, 5.5, 0), (reach, 5.8, 0), 0.07),
            block(TRAFFIC_LIGHT, housing, (reach, 4.75, -0.18), (0.46, 1.25, 0.32)),
        ]
    return solids


def _lamps(lit: int, colour) -> Material:
    def material(p, n):
        base = painted(0.8 + 0.4 * noise(p[0], p[1], 2), colour)
        for i, glow in enumerate(((3.0, 0.25, 0.15), (3.0, 1.5, 0.15), (0.2, 2.6, 1.3))):
            inside = (np.hypot(p[0], p[1] - 0.37 * (1 - i)) < 0.15) & (n[2] < -0.7)
            base = mixed(base, np.array(glow) if i == lit else np.array(glow) * 0.02, inside)
        return base

    return material


_BOARDS = (  # outline, half width, half height, colours of face, rim and symbol
    (polygon(0), 0.45, 0.45, (0.7, 0.7, 0.68), (0.5, 0.02, 0.02), (0.02, 0.02, 0.02)),
    (polygon(3, np.pi / 2), 0.6, 0.6, (0.7, 0.7, 0.66), (0.5, 0.03, 0.02), (0.02, 0.02, 0.02)),
    (polygon(0), 0.45, 0.45, (0.02, 0.09, 0.4), (0.5, 0.5, 0.5), (0.7, 0.7, 0.7)),
    (polygon(8, np.pi / 8), 0.5, 0.5, (0.45, 0.02, 0.02), (0.7, 0.7, 0.7), (0.7, 0.7, 0.7)),
    (polygon(4), 0.55, 0.55, (0.62, 0.42, 0.02), (0.7, 0.7, 0.7), (0.62, 0.42, 0.02)),
    (rectangle, 0.42, 0.42, (0.03, 0.12, 0.45), (0.7, 0.7, 0.7), (0.7, 0.7, 0.7)),
    (rectangle, 1.0, 0.55, (0.02, 0.16, 0.09), (0.6, 0.6, 0.6), (0.7, 0.7, 0.7)),
    (rectangle, 0.8, 0.5, (0.6, 0.6, 0.58), (0.03, 0.03, 0.03), (0.03, 0.03, 0.03)),
)


def sign(rng) -> list[Solid]:
    """A board towards -z on a pole, at times with a smaller one below; the back is bare metal."""
    outline, wide, high, *colours = _BOARDS[rng.integers(len(_BOARDS))]
    grow, low = rng.uniform(0.9, 1.15), rng.uniform(2.0, 2.5)
    wide, high = wide * grow, high * grow
    face = _board(rng, outline, (wide, high), *colours)
    solids = [
        limb(POLE, plain(picked(rng, _METALS), 0.15), (0, 0, 0), (0, low + high, 0), 0.05),
        block(TRAFFIC_SIGN, face, (0, low, -0.08), (2 * wide, 2 * high, 0.04), cut=outline),
    ]
    if rng.random() < 0.3:
        plate = _board(rng, rectangle, (0.4, 0.2), (0.7, 0.7, 0.7), (0.05, 0.05, 0.05), (0.03, 0.03, 0.03))
        solids.append(block(TRAFFIC_SIGN, plate, (0, low - 0.5, -0.08), (0.8, 0.4, 0.04)))
    return solids


def _board(rng, outline, half, face, rim, symbol) -> Material:
    shift = rng.uniform(0, 9)

    def material(p, n):
        q = np.stack([p[0] / half[0], p[1] / half[1], p[2]]).astype(np.float32)
        base = mixed(painted(np.ones_like(p[0]), rim), face, outline(q * 1.22, None))
        drawn = (noise(q[0] + shift, np.abs(q[1] + 0.3) + shift, 7) > 0.52) & outline(q * 1.9, None)
        return mixed(mixed(base, symbol, drawn), (0.28, 0.29, 0.3), n[2] > -0.7)

    return material


def fence(rng, long: float) -> list[Solid]:
    """A fence along x, ``long`` metres: bars, boards or a closed panel."""
    high, kind = rng.uniform(1.0, 1.9), rng.integers(3)
    if kind == 0:
        metal = plain(picked(rng, _METALS), 0.1)
        return [block(FENCE, metal, (0, 0, 0), (long, high, 0.05), holes=openings(long * 3.2, 0.35))]
    skin = masonry(rng, picked(rng, _WOODS), (0.18, 9.0) if kind == 1 else (0.5, 0.18))
    holes = openings(long * 2.5, 0.8) if kind == 1 else None
    return [block(FENCE, skin, (0, 0, 0), (long, high, 0.06), holes=holes)]


def house(rng, wide: float, deep: float) -> list[Solid]:
    """A building ``wide`` along z and ``deep`` along x, with a flat or a pitched roof, at times with a bay."""
    tall = rng.uniform(5.5, 9) if rng.random() < 0.45 else rng.uniform(9, 22)
    front = facade(rng, picked(rng, _WALLS), tall)
    solids = [block(CONSTRUCTION, front, (0, 0, 0), (deep, tall, wide))]
    if tall < 11:
        tiles = masonry(rng, picked(rng, _TILES), (0.4, 0.3))
        ridge = (0.97, 0.0) if rng.random() < 0.6 else (0.0, 0.97)
        solids.append(block(CONSTRUCTION, tiles, (0, tall, 0), (deep + 0.8, rng.uniform(2, 3.8), wide), taper=ridge))
        if rng.random() < 0.5:
            solids.append(block(CONSTRUCTION, front, (0, tall + 0.5, wide * 0.3), (0.9, 3.8, 0.9)))
    if rng.random() < 0.3:
        solids.append(block(CONSTRUCTION, front, (0, 0, rng.uniform(-0.3, 0.3) * wide), (deep + 1.2, tall * 0.75, 2.6)))
    return solids
