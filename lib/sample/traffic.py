"""Traffic: cars, pedestrians, and riders with their two-wheelers.

A single object stands around the origin of the ground and faces +z; :func:`lib.sample.solids.place` moves it.
"""

import numpy as np

from lib.dataset.classes import CAR, PERSON, RIDER
from lib.sample import furniture
from lib.sample.plan import KERB, StreetPlan
from lib.sample.solids import Material, Solid, ball, block, place, rod
from lib.sample.textures import LEAVES, PAINTS, blend, noise, pick, plain, tint

_HAIR = ((0.02, 0.015, 0.01), (0.1, 0.05, 0.02), (0.3, 0.2, 0.08))


def all_traffic(rng, plan: StreetPlan) -> list[Solid]:
    """Return cars, riders, pedestrians and the traffic lights of a street; they occupy ground of its plan."""
    return _crossings(rng, plan) + _cars(rng, plan) + _riders(rng, plan) + _people(rng, plan)


def _crossings(rng, plan: StreetPlan) -> list[Solid]:
    """Return traffic lights at the corners, and cars and pedestrians that cross."""
    solids = []
    for z, half, _ in plan.crossings:
        for side in (-1, 1):
            x = side * (plan.road + 0.5)
            for at, chance in ((z - half - 1, 0.85 if side > 0 else 0.5), (z + half + 1, 0.6)):
                if rng.random() < chance and at > 4 and plan.occupy(x, at, 0.4):
                    solids += place(furniture.traffic_light(rng, -side), x, at, rng.normal(0, 0.08), KERB)
            x, at = side * rng.uniform(4, 24), z - side * half * 0.45
            if rng.random() < 0.45 and plan.occupy(x, at, 2.4):
                solids += place(car(rng), x, at, np.pi / 2 * side)
        for _ in range(rng.integers(0, 4)):
            x, at = rng.uniform(-plan.road, plan.road), z - half - rng.uniform(1.6, 4.2)
            if at > 4.5 and plan.occupy(x, at, 0.5):
                solids += place(person(rng), x, at, rng.choice([-1, 1]) * np.pi / 2)
    return solids


def _cars(rng, plan: StreetPlan) -> list[Solid]:
    """Return cars in both lanes and parked at the kerbs."""
    solids = []
    for lane, yaw in ((plan.lane, 0.0), (-plan.lane, np.pi)):
        z = rng.uniform(9, 30)
        while z < plan.end - 10:
            if plan.occupy(lane, z, 2.2):
                solids += place(car(rng), lane + rng.normal(0, 0.2), z, yaw + rng.normal(0, 0.04))
            z += rng.uniform(9, 45)
    for side, density in zip((-1, 1), plan.parking, strict=True):
        for a, b in plan.blocks(side):
            for z in np.arange(max(a, -6) + 4, b - 4, rng.uniform(5.4, 6.5)):
                x = side * (plan.road - 1.1)
                if rng.random() < density and plan.occupy(x, z, 1.8):
                    solids += place(car(rng), x, z, np.pi * (side < 0) + rng.normal(0, 0.02))
    return solids


def _riders(rng, plan: StreetPlan) -> list[Solid]:
    solids = []
    for _ in range(rng.integers(1, 5)):
        side, z = rng.choice([-1, 1]), 3.5 + 20 * rng.random() ** 1.5
        x = side * (plan.lane * 2 - rng.uniform(0.5, 1.0))
        yaw = np.pi * (side < 0) + rng.normal(0, 0.1)
        if rng.random() < 0.25:
            x, yaw = rng.uniform(-plan.road, plan.road), rng.choice([-1, 1]) * np.pi / 2 + rng.normal(0, 0.3)
        if plan.occupy(x, z, 1.0):
            solids += place(rider(rng), x, z, yaw)
    return solids


def _people(rng, plan: StreetPlan) -> list[Solid]:
    solids = []
    for _ in range(rng.integers(5, 14)):
        x = rng.choice([-1, 1]) * (plan.road + rng.uniform(0.8, max(plan.walk - 0.4, 1.2)))
        z = 2.5 + 36 * rng.random() ** 1.8
        on_walk = any(a < z < b for a, b in plan.blocks(int(np.sign(x))))
        if on_walk and plan.occupy(x, z, 0.35):
            solids += place(person(rng), x, z, rng.choice([0, np.pi]) + rng.normal(0, 0.4), KERB)
    return solids


def car(rng) -> list[Solid]:
    """Return a saloon, a hatchback or a van."""
    wide, long = rng.uniform(1.7, 1.95), rng.uniform(3.8, 4.8)
    tall, sill = rng.choice([0.55, 0.6, 1.15], p=[0.45, 0.35, 0.2]), rng.uniform(0.85, 0.98)
    cabin = long * (rng.uniform(0.5, 0.6) if tall < 1 else 0.8)
    back = (cabin - long) / 2 * rng.uniform(0.4, 1.0)
    colour = pick(rng, PAINTS)
    lean = (0.24, 0.42) if tall < 1 else (0.14, 0.2)
    rubber = plain((0.025, 0.025, 0.028))
    wheel = plain((0.03, 0.03, 0.03) if rng.random() < 0.3 else (0.2, 0.2, 0.21))
    solids = [
        block(CAR, rubber, (0, 0.18, 0), (wide * 0.9, 0.3, long * 0.93)),
        block(CAR, _bodywork(colour, wide, long), (0, 0.32, 0), (wide, sill - 0.32, long), taper=(0.08, 0.07)),
        block(CAR, _cabin(colour, tall), (0, sill, back), (wide * 0.92, tall, cabin), taper=lean),
    ]
    for x in (-1, 1):
        for z in (-0.3, 0.31):
            solids.append(ball(CAR, rubber, (x * (wide / 2 - 0.09), 0.33, z * long), (0.12, 0.33, 0.33)))
            solids.append(ball(CAR, wheel, (x * (wide / 2 - 0.05), 0.33, z * long), (0.1, 0.2, 0.2)))
    return solids


def _bodywork(colour, wide: float, long: float) -> Material:
    def material(p, n):
        x, y, z = p
        base = tint(0.75 + 0.5 * np.abs(n[1]) + 0.15 * noise(x + z, y, 4), colour)
        end = np.abs(n[2]) > 0.7
        base = blend(base, (0.03,) * 3, (y < -0.16) | (np.abs(z - 0.1) < 0.012) & ~end)
        base = blend(base, (0.55, 0.55, 0.5), end & (np.abs(x) < 0.27) & (np.abs(y + 0.02) < 0.06))
        lamp = end & (np.abs(x) > wide * 0.3) & (y > -0.02) & (y < 0.17)
        base = blend(base, (0.5, 0.03, 0.02), lamp & (z < 0))
        return blend(base, (0.9, 0.9, 0.8), lamp & (z > 0))

    return material


def _cabin(colour, tall: float) -> Material:
    def material(p, n):
        base = tint(0.8 + 0.5 * np.abs(n[1]), colour)
        side = np.abs(n[0]) > 0.7
        pillar = side & ((np.abs(p[2] - 0.1) < 0.05) | (np.abs(np.abs(p[2]) - 0.95) < 0.05))
        pane = (n[1] < 0.8) & (p[1] < tall * 0.4) & (p[1] > -tall * 0.42) & ~pillar
        return blend(base, tint(0.03 + 0.16 * noise(p[0] + p[2], p[1], 3) ** 2, (0.9, 1, 1.1)), pane)

    return material


def person(rng) -> list[Solid]:
    """Return a pedestrian, walking or standing, in trousers or a long coat."""
    top, legs = plain(pick(rng, (*PAINTS, *LEAVES)), 0.25, 0.9), plain(pick(rng, PAINTS), 0.2, 0.9)
    skin, hair = _head(rng)
    step, wide = rng.uniform(0, 0.32), rng.uniform(0.2, 0.26)
    coat = rng.random() < 0.3
    solids = [
        ball(PERSON, top, (0, 0.98 if coat else 1.17, 0), (wide, 0.55 if coat else 0.36, 0.16)),
        ball(PERSON, skin, (0, 1.63, 0.01), (0.1, 0.14, 0.11)),
        ball(PERSON, hair, (0, 1.67, -0.03), (0.11, 0.12, 0.11)),
    ]
    for side in (-1, 1):
        solids += [
            rod(PERSON, legs, (side * 0.09, 0.95, 0), (side * 0.11, 0.05, side * step), 0.085),
            rod(PERSON, top, (side * (wide - 0.02), 1.44, 0), (side * (wide + 0.07), 0.82, -side * step), 0.06),
            ball(PERSON, plain((0.03, 0.03, 0.03)), (side * 0.11, 0.05, side * step + 0.05), (0.06, 0.06, 0.14)),
        ]
    if rng.random() < 0.3:
        solids.append(block(PERSON, plain(pick(rng, PAINTS)), (0, 1.02, -0.22), (0.32, 0.45, 0.2)))
    return solids


def _head(rng) -> tuple[Material, Material]:
    skin = np.array((0.5, 0.3, 0.2)) * rng.uniform(0.25, 1.2)
    return plain(skin, 0.1), plain(pick(rng, _HAIR))


def rider(rng) -> list[Solid]:
    """Return a rider on a bicycle or a motorbike; the two-wheeler has the class Rider too."""
    motor = rng.random() < 0.35
    top, legs = plain(pick(rng, (*PAINTS, *LEAVES)), 0.25, 0.9), plain(pick(rng, PAINTS), 0.2, 0.9)
    frame, rubber = plain(pick(rng, PAINTS)), plain((0.03, 0.03, 0.03))
    skin, hair = _head(rng)
    helmet = plain(pick(rng, PAINTS)) if motor or rng.random() < 0.5 else hair
    size = 0.15 if motor else 0.12
    solids = [
        rod(RIDER, top, (0, 0.84, -0.3), (0, 1.64, 0.14), 0.21, "ball"),
        ball(RIDER, skin, (0, 1.64, 0.19), (0.1, 0.13, 0.11)),
        ball(RIDER, helmet, (0, 1.69, 0.16), (size, size, size + 0.02)),
        rod(RIDER, frame, (-0.3, 1.06, 0.46), (0.3, 1.06, 0.46), 0.025),
    ]
    for side in (-0.16, 0.16):
        solids += [
            rod(RIDER, top, (side * 1.4, 1.43, 0.05), (side * 1.6, 1.08, 0.44), 0.06),
            rod(RIDER, legs, (side * 0.6, 0.98, -0.24), (side * 0.9, 0.7, 0.2), 0.1),
            rod(RIDER, legs, (side * 0.9, 0.72, 0.2), (side * 0.9, 0.25 + side, 0.02), 0.075),
        ]
    rim = 0.1 if motor else 0.03
    for z in (-0.55, 0.55):
        solids.append(ball(RIDER, rubber, (0, 0.34, z), (rim, 0.34, 0.34), holes=None if motor else _spokes))
    if motor:
        solids.append(rod(RIDER, frame, (0, 0.65, -0.75), (0, 0.8, 0.5), 0.24, "ball"))
        solids.append(ball(RIDER, frame, (0, 0.5, 0), (0.2, 0.25, 0.4)))
    else:
        joints = ((0, 0.34, -0.55), (0, 0.88, -0.24), (0, 0.85, 0.36), (0, 0.34, 0.55))
        bars = [(joints[i], joints[i + 1]) for i in range(3)] + [((0, 0.3, -0.05), joint) for joint in joints[:3]]
        solids += [rod(RIDER, frame, a, b, 0.03) for a, b in bars]
    return solids


def _spokes(q, ray):
    radius = np.hypot(q[1], q[2])
    return (radius > 0.8) | (radius < 0.15)
