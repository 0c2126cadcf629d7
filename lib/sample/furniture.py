"""Street furniture: lamps, bollards, traffic lights and traffic signs.

Each object stands around the origin of the ground and faces -z; :func:`lib.sample.solids.place` moves it.
"""

import numpy as np

from lib.dataset.classes import POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN
from lib.sample.solids import Cutout, Material, Solid, block, rod
from lib.sample.textures import METALS, blend, noise, pick, plain, striped, tint


def lamp(rng, road: int) -> list[Solid]:
    """Return a street lamp with its arm towards the road, at ``road`` (-1 or 1) along x, or a wooden utility pole."""
    metal, tall = plain(pick(rng, METALS), 0.15), rng.uniform(5.5, 9)
    thick = rng.uniform(0.08, 0.14)
    if rng.random() < 0.25:
        wood = plain((0.2, 0.14, 0.09), 0.35, 1.5)
        beam = rod(POLE, wood, (-0.9, tall - 0.6, 0), (0.9, tall - 0.6, 0), 0.07)
        return [rod(POLE, wood, (0, 0, 0), (0, tall, 0), 0.16), beam]
    return [
        rod(POLE, metal, (0, 0, 0), (0, 1.1, 0), thick * 1.5),
        rod(POLE, metal, (0, 1, 0), (0, tall, 0), thick),
        rod(POLE, metal, (0, tall - 0.05, 0), (road * 1.7, tall + 0.3, 0), 0.05),
        block(POLE, metal, (road * 1.9, tall + 0.24, 0), (0.8, 0.14, 0.3)),
    ]


def bollard(rng) -> list[Solid]:
    """Return a short post, plain or striped in red and white."""
    tall = rng.uniform(0.8, 1.2)
    ringed = striped((0.6, 0.6, 0.58), (0.4, 0.04, 0.03), 0.2)
    return [rod(POLE, ringed if rng.random() < 0.4 else plain(pick(rng, METALS)), (0, 0, 0), (0, tall, 0), 0.08)]


def traffic_light(rng, road: int) -> list[Solid]:
    """Return a traffic light on a pole; some carry a second one over the road, at ``road`` (-1 or 1) along x."""
    metal, lit = plain(pick(rng, METALS), 0.15), rng.integers(3)
    housing = _lamps(lit, (0.02, 0.022, 0.02) if rng.random() < 0.7 else (0.35, 0.26, 0.04))
    low = rng.uniform(2.2, 2.7)
    solids = [
        rod(POLE, metal, (0, 0, 0), (0, low + 0.6, 0), 0.08),
        block(TRAFFIC_LIGHT, housing, (0, low, -0.22), (0.44, 1.2, 0.32)),
    ]
    if rng.random() < 0.45:
        reach = road * rng.uniform(2.6, 4.2)
        solids += [
            rod(POLE, metal, (0, 0, 0), (0, 5.6, 0), 0.11),
            rod(POLE, metal, (0, 5.5, 0), (reach, 5.8, 0), 0.07),
            block(TRAFFIC_LIGHT, housing, (reach, 4.75, -0.18), (0.46, 1.25, 0.32)),
        ]
    return solids


def _lamps(lit: int, colour) -> Material:
    def material(p, n):
        base = tint(0.8 + 0.4 * noise(p[0], p[1], 2), colour)
        for i, glow in enumerate(((3.0, 0.25, 0.15), (3.0, 1.5, 0.15), (0.2, 2.6, 1.3))):
            inside = (np.hypot(p[0], p[1] - 0.37 * (1 - i)) < 0.15) & (n[2] < -0.7)
            base = blend(base, np.array(glow) if i == lit else np.array(glow) * 0.02, inside)
        return base

    return material


def polygon(corners: int, angle: float = 0.0) -> Cutout:
    """Return a regular outline of a block's front (x, y), turned by an angle (rad); 0 corners are a disc."""

    def keep(q, ray):
        radius = np.hypot(q[0], q[1])
        if not corners:
            return radius <= 1
        around = (np.arctan2(q[1], q[0]) - np.float32(angle)) % np.float32(2 * np.pi / corners)
        return radius * np.cos(around - np.float32(np.pi / corners)) <= np.cos(np.pi / corners)

    return keep


def rectangle(q, ray):
    """The outline of a block's whole front."""
    return np.maximum(np.abs(q[0]), np.abs(q[1])) <= 1.001


_SIGNS = (  # outline, half width, half height, colours of face, rim and symbol
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
    """Return a traffic sign on a pole, perhaps with a smaller one below; its back is bare metal."""
    outline, wide, high, *colours = _SIGNS[rng.integers(len(_SIGNS))]
    grow, low = rng.uniform(0.9, 1.15), rng.uniform(2.0, 2.5)
    wide, high = wide * grow, high * grow
    face = _sign_face(rng, outline, (wide, high), *colours)
    solids = [
        rod(POLE, plain(pick(rng, METALS), 0.15), (0, 0, 0), (0, low + high, 0), 0.05),
        block(TRAFFIC_SIGN, face, (0, low, -0.08), (2 * wide, 2 * high, 0.04), outline=outline),
    ]
    if rng.random() < 0.3:
        lower = _sign_face(rng, rectangle, (0.4, 0.2), (0.7, 0.7, 0.7), (0.05, 0.05, 0.05), (0.03, 0.03, 0.03))
        solids.append(block(TRAFFIC_SIGN, lower, (0, low - 0.5, -0.08), (0.8, 0.4, 0.04)))
    return solids


def _sign_face(rng, outline, half, face, rim, symbol) -> Material:
    shift = rng.uniform(0, 9)

    def material(p, n):
        q = np.stack([p[0] / half[0], p[1] / half[1], p[2]]).astype(np.float32)
        base = blend(tint(np.ones_like(p[0]), rim), face, outline(q * 1.22, None))
        inked = (noise(q[0] + shift, np.abs(q[1] + 0.3) + shift, 7) > 0.52) & outline(q * 1.9, None)
        return blend(blend(base, symbol, inked), (0.28, 0.29, 0.3), n[2] > -0.7)

    return material
