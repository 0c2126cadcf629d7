"""Layout of a random street: sidewalks, lots, street furniture, and the camera's position.

The street runs along +z. The camera stands near z = 0 in the right lane. Side streets leave along x, and a row of
houses closes the street at its far end.
"""

from dataclasses import dataclass

import numpy as np

from lib.dataset.classes import CONSTRUCTION, NATURE, ROAD, SIDEWALK
from lib.sample import buildings, furniture, plants
from lib.sample.plan import KERB, StreetPlan, random_plan
from lib.sample.road import tarmac
from lib.sample.solids import Solid, block, place
from lib.sample.textures import masonry, paving
from lib.sample.traffic import all_traffic
from lib.sample.weather import Weather

_ASIDE = 48.0  # extent of the ground to both sides, metres


@dataclass(frozen=True)
class Street:
    """A scene and the camera's pose in it.

    Args:
        solids: all objects and the ground.
        weather: light, haze and sky.
        origin: the camera's centre, ``float (3,)`` metres.
        rotation: camera rays (x right, y down, z ahead) to world directions, ``float (3, 3)``.
    """

    solids: list[Solid]
    weather: Weather
    origin: np.ndarray
    rotation: np.ndarray


def random_street(seed) -> Street:
    """Return a random street; ``seed`` as in ``numpy.random.default_rng``."""
    rng = np.random.default_rng(seed)
    plan = random_plan(rng)
    x = plan.lane + rng.normal(0, 0.4)
    plan.occupy(x, 0.0, 2.2)
    plan.occupy(x, 4.0, 2.0)
    solids = [block(ROAD, tarmac(rng, plan), (0, -1, 0), (800, 1, 800))]
    solids += all_traffic(rng, plan)
    for side in (-1, 1):
        ground = paving(rng)
        for a, b in plan.blocks(side):
            wide = _ASIDE - plan.road
            at = (side * (plan.road + wide / 2), 0, (a + b) / 2)
            solids.append(block(SIDEWALK, ground, at, (wide, KERB, b - a)))
            solids += _kerbside(rng, plan, side, a, b) + _lots(rng, plan, side, a, b)
    solids += _closing(rng, plan)
    at_crossing = any(abs(z) < half for z, half, _ in plan.crossings)
    yaw = rng.uniform(-0.8, 0.8) if at_crossing and rng.random() < 0.6 else rng.normal(0, 0.1)
    rotation = _pose(yaw, rng.normal(-0.02, 0.025), rng.normal(0, 0.012))
    return Street(solids, Weather.random(rng), np.array([x, rng.uniform(1.3, 1.55), 0.0]), rotation)


def _pose(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Return the rotation (camera to world) of a camera turned right, up and clockwise by these angles (rad)."""
    (cy, cp, cr), (sy, sp, sr) = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_y @ about_x @ np.diag([1.0, -1.0, 1.0]) @ about_z


def _kerbside(rng, plan: StreetPlan, side: int, a: float, b: float) -> list[Solid]:
    """Return lamps, signs, trees and bollards in a row behind the kerb of z from ``a`` to ``b``."""
    solids, z = [], a + rng.uniform(1, 5)
    while z < b - 1:
        x, pick = side * (plan.road + rng.uniform(0.4, 0.6)), rng.random()
        if plan.occupy(x, z, 0.3):
            if pick < plan.planted:
                solids += place(plants.tree(rng), x + side * 0.4, z, y=KERB)
            elif pick < plan.planted + 0.25:
                solids += place(furniture.sign(rng), x, z, rng.normal(0, 0.15) + np.pi * (rng.random() < 0.15), KERB)
            elif pick < plan.planted + 0.45:
                solids += place(furniture.lamp(rng, -side), x, z, y=KERB)
            else:
                for step in range(rng.integers(1, 5)):
                    solids += place(furniture.bollard(rng), x, z + 1.5 * step, y=KERB)
        z += rng.uniform(3, 7)
    return solids


def _lots(rng, plan: StreetPlan, side: int, a: float, b: float) -> list[Solid]:
    """Return houses and gardens behind the sidewalk of z from ``a`` to ``b``, and a house in their rear."""
    solids, front, z = [], plan.road + plan.walk, a + 0.5
    while z < b - 4:
        long = min(rng.uniform(8, 16), b - 0.5 - z)
        built, setback = rng.random() < plan.town, rng.choice([0.0, rng.uniform(1.5, 6)])
        garden = setback if built else rng.uniform(9, 14)
        middle, deep = z + long / 2, rng.uniform(8, 12)
        if garden:
            lawn = block(NATURE, plants.foliage(rng, 1.5), (0, 0, 0), (garden, 0.05, long))
            solids += place([lawn], side * (front + garden / 2), middle, y=KERB)
            solids += place(_border(rng, long), side * (front + 0.15), middle, np.pi / 2, KERB)
            for _ in range(rng.integers(1, 4) if built else rng.integers(3, 7)):
                grow = plants.bush if garden < 4 or rng.random() < 0.4 else plants.tree
                x = front + (rng.uniform(0.8, garden - 0.5) if garden > 1.6 else 0.9)
                solids += place(grow(rng), side * x, z + rng.uniform(0.5, long - 0.5), y=KERB)
        if built:
            solids += place(buildings.house(rng, long, deep), side * (front + garden + deep / 2), middle)
        z += long
    back = buildings.house(rng, b - a - 1, 6) if rng.random() < 0.7 else []
    return solids + place(back, side * (front + rng.uniform(22, 28)), (a + b) / 2)


def _border(rng, long: float) -> list[Solid]:
    """Return a fence, a hedge, a low wall or nothing between garden and sidewalk."""
    pick = rng.random()
    if pick < 0.6:
        return buildings.fence(rng, long)
    if pick < 0.75:
        return [block(NATURE, plants.foliage(rng), (0, 0, 0), (long, rng.uniform(0.8, 1.8), 0.7))]
    if pick < 0.88:
        stone = masonry(rng, rng.uniform(0.15, 0.4) * np.array((1, 0.85, 0.7)))
        return [block(CONSTRUCTION, stone, (0, 0, 0), (long, rng.uniform(0.5, 1.3), 0.3))]
    return []


def _closing(rng, plan: StreetPlan) -> list[Solid]:
    """Return houses or trees at the end of the street and at the ends of its side streets."""
    solids, x = [block(SIDEWALK, paving(rng), (0, 0, plan.end + 20), (2 * _ASIDE + 60, KERB, 40))], -_ASIDE - 25
    while x < _ASIDE + 25:
        wide = rng.uniform(10, 20)
        if rng.random() < plan.town:
            solids += place(buildings.house(rng, wide, 10), x + wide / 2, plan.end + 9, np.pi / 2)
        else:
            for _ in range(4):
                solids += place(plants.tree(rng), x + rng.uniform(0, wide), plan.end + rng.uniform(3, 9))
        x += wide
    for z, half, sides in plan.crossings:
        for side in sides:
            solids += place(buildings.house(rng, 2 * half + 24, 8), side * (_ASIDE + rng.uniform(4, 30)), z)
    return solids
