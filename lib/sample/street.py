"""Random streets: how road, sidewalks, lots, furniture and traffic are laid out, and where the camera stands.

The street runs along +z with the camera near z = 0 on the right half of the road; side streets leave it
along x, and a row of houses closes it at its far end.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lib.dataset.classes import CONSTRUCTION, NATURE, ROAD, SIDEWALK
from lib.sample import things, traffic
from lib.sample.solids import Material, Solid, block, placed
from lib.sample.textures import dice, masonry, mixed, noise, painted, paving
from lib.sample.weather import Weather

_KERB = 0.13
_BEHIND, _ASIDE = -22.0, 48.0  # how far the world reaches behind the camera and to the sides, metres


@dataclass(frozen=True)
class Street:
    """One scene: what stands in it, its light, and the camera's place.

    Args:
        solids: everything but the sky.
        weather: light, haze and sky.
        origin: ``float (3,)`` the camera's centre, metres.
        turn: ``float (3, 3)``, camera rays (x right, y down, z ahead) to world directions.
    """

    solids: list[Solid]
    weather: Weather
    origin: np.ndarray
    turn: np.ndarray


@dataclass
class _Plan:
    """The street's measures (metres) and which ground is taken."""

    road: float  # half width
    walk: float  # width of a sidewalk
    parking: tuple[float, float]  # how densely the left and the right kerb are parked, 0-1
    crossings: list[tuple[float, float, tuple[int, ...]]]  # (z, half width, sides the side street leaves to)
    end: float
    town: float  # share of lots with a house on them
    planted: float  # share of kerb places with a tree
    taken: list[tuple[float, float, float]] = field(default_factory=list)

    @property
    def lane(self) -> float:
        return (self.road - 2.0 * (max(self.parking) > 0)) / 2

    def blocks(self, side: int) -> list[tuple[float, float]]:
        """The sidewalk's stretches of z between the side streets that leave to ``side``."""
        cuts = [(z - half, z + half) for z, half, sides in self.crossings if side in sides]
        edges = [_BEHIND, *np.ravel(cuts), self.end - 9]
        return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a > 3]

    def take(self, x: float, z: float, radius: float) -> bool:
        """Whether the place is free; it is not any more."""
        if any((x - a) ** 2 + (z - b) ** 2 < (radius + r) ** 2 for a, b, r in self.taken):
            return False
        self.taken.append((x, z, radius))
        return True


def street(seed) -> Street:
    """A random street; ``seed`` is whatever ``numpy.random.default_rng`` takes."""
    rng = np.random.default_rng(seed)
    plan = _plan(rng)
    x = plan.lane + rng.normal(0, 0.4)
    plan.take(x, 0.0, 2.2)
    plan.take(x, 4.0, 2.0)
    solids = [block(ROAD, _tarmac(rng, plan), (0, -1, 0), (800, 1, 800))]
    solids += _crossings(rng, plan) + _traffic(rng, plan) + _riders(rng, plan) + _people(rng, plan)
    for side in (-1, 1):
        ground = paving(rng)
        for a, b in plan.blocks(side):
            wide = _ASIDE - plan.road
            at = (side * (plan.road + wide / 2), 0, (a + b) / 2)
            solids.append(block(SIDEWALK, ground, at, (wide, _KERB, b - a)))
            solids += _kerbside(rng, plan, side, a, b) + _lots(rng, plan, side, a, b)
    solids += _closing(rng, plan)
    at_crossing = any(abs(z) < half for z, half, _ in plan.crossings)
    yaw = rng.uniform(-0.8, 0.8) if at_crossing and rng.random() < 0.6 else rng.normal(0, 0.1)
    turn = _pose(yaw, rng.normal(-0.02, 0.025), rng.normal(0, 0.012))
    return Street(solids, Weather.random(rng), np.array([x, rng.uniform(1.3, 1.55), 0.0]), turn)


def _pose(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Camera to world for a camera turned right by ``yaw``, up by ``pitch``, clockwise by ``roll`` (rad)."""
    (cy, cp, cr), (sy, sp, sr) = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_y @ about_x @ np.diag([1.0, -1.0, 1.0]) @ about_z


def _plan(rng) -> _Plan:
    parking = tuple(float(v) for v in rng.choice([0.0, 0.45, 0.85], size=2))
    road = rng.uniform(3.4, 5.0) + 2.0 * (max(parking) > 0)
    end, crossings = rng.uniform(55, 150), []
    z = rng.uniform(-3, 7) if rng.random() < 0.2 else rng.uniform(10, 38)
    while z < end - 30:
        sides = ((-1, 1), (-1, 1), (-1,), (1,))[rng.integers(4)]
        crossings.append((z, rng.uniform(3.5, 5.5), sides))
        z += rng.uniform(28, 60)
    return _Plan(road, rng.uniform(1.9, 4.2), parking, crossings, end, rng.uniform(0.35, 0.95), rng.choice([0.1, 0.45]))


def _tarmac(rng, plan: _Plan) -> Material:
    """The road's surface: patches and wheel tracks, lane lines, and zebra stripes and stop lines at crossings."""
    grey = rng.uniform(0.07, 0.26) * (1 + rng.uniform(-0.08, 0.08, 3))
    paint, wear, zebra = rng.uniform(0.4, 0.65), rng.uniform(0.2, 0.6), rng.random() < 0.6
    dash, edge = rng.uniform(4, 9), plan.road - 0.3 - 2.0 * (max(plan.parking) > 0)

    def material(p, n):
        x, _, z = p
        base = painted(0.75 + 0.3 * noise(x, z, 37) + 0.25 * noise(x, z, 2.3), grey)
        base *= 1 - 0.25 * ((dice(x / 4, z / 7) < 0.07) & (np.abs(x) < plan.road))[:, None]
        base *= 1 - 0.12 * (np.abs(np.abs(np.abs(x) - plan.lane) - 0.8) < 0.3)[:, None]
        line = (np.abs(x) < 0.08) & (z % dash < dash / 2) | (np.abs(np.abs(x) - edge) < 0.06)
        for centre, half, _ in plan.crossings:
            away = np.abs(z - centre) - half
            line &= away > 1
            line |= zebra & (away > 1.4) & (away < 4.4) & (x % 1.1 < 0.55)
            line |= (np.abs(away - 5.2) < 0.2) & (x * (z - centre) < 0)
            line &= np.abs(x) < plan.road
            line |= (np.abs(z - centre) < 0.07) & (np.abs(x) > plan.road + 4) & (x % dash < dash / 2)
        return mixed(base, (paint,) * 3, line * (1 - wear * noise(x, z, 5)))

    return material


def _crossings(rng, plan: _Plan) -> list[Solid]:
    """Traffic lights on the corners, cars and walkers that cross."""
    solids = []
    for z, half, _ in plan.crossings:
        for side in (-1, 1):
            x = side * (plan.road + 0.5)
            for at, chance in ((z - half - 1, 0.85 if side > 0 else 0.5), (z + half + 1, 0.6)):
                if rng.random() < chance and at > 4 and plan.take(x, at, 0.4):
                    solids += placed(things.traffic_light(rng, -side), x, at, rng.normal(0, 0.08), _KERB)
            x, at = side * rng.uniform(4, 24), z - side * half * 0.45
            if rng.random() < 0.45 and plan.take(x, at, 2.4):
                solids += placed(traffic.car(rng), x, at, np.pi / 2 * side)
        for _ in range(rng.integers(0, 4)):
            x, at = rng.uniform(-plan.road, plan.road), z - half - rng.uniform(1.6, 4.2)
            if at > 4.5 and plan.take(x, at, 0.5):
                solids += placed(traffic.person(rng), x, at, rng.choice([-1, 1]) * np.pi / 2)
    return solids


def _traffic(rng, plan: _Plan) -> list[Solid]:
    """Cars in both lanes and along the kerbs."""
    solids = []
    for lane, yaw in ((plan.lane, 0.0), (-plan.lane, np.pi)):
        z = rng.uniform(9, 30)
        while z < plan.end - 10:
            if plan.take(lane, z, 2.2):
                solids += placed(traffic.car(rng), lane + rng.normal(0, 0.2), z, yaw + rng.normal(0, 0.04))
            z += rng.uniform(9, 45)
    for side, density in zip((-1, 1), plan.parking, strict=True):
        for a, b in plan.blocks(side):
            for z in np.arange(max(a, -6) + 4, b - 4, rng.uniform(5.4, 6.5)):
                x = side * (plan.road - 1.1)
                if rng.random() < density and plan.take(x, z, 1.8):
                    solids += placed(traffic.car(rng), x, z, np.pi * (side < 0) + rng.normal(0, 0.02))
    return solids


def _riders(rng, plan: _Plan) -> list[Solid]:
    solids = []
    for _ in range(rng.integers(1, 5)):
        side, z = rng.choice([-1, 1]), 3.5 + 20 * rng.random() ** 1.5
        x = side * (plan.lane * 2 - rng.uniform(0.5, 1.0))
        yaw = np.pi * (side < 0) + rng.normal(0, 0.1)
        if rng.random() < 0.25:
            x, yaw = rng.uniform(-plan.road, plan.road), rng.choice([-1, 1]) * np.pi / 2 + rng.normal(0, 0.3)
        if plan.take(x, z, 1.0):
            solids += placed(traffic.rider(rng), x, z, yaw)
    return solids


def _people(rng, plan: _Plan) -> list[Solid]:
    solids = []
    for _ in range(rng.integers(5, 14)):
        x = rng.choice([-1, 1]) * (plan.road + rng.uniform(0.8, max(plan.walk - 0.4, 1.2)))
        z = 2.5 + 36 * rng.random() ** 1.8
        on_walk = any(a < z < b for a, b in plan.blocks(int(np.sign(x))))
        if on_walk and plan.take(x, z, 0.35):
            solids += placed(traffic.person(rng), x, z, rng.choice([0, np.pi]) + rng.normal(0, 0.4), _KERB)
    return solids


def _kerbside(rng, plan: _Plan, side: int, a: float, b: float) -> list[Solid]:
    """Lamps, signs, trees and posts in a row behind the kerb."""
    solids, z = [], a + rng.uniform(1, 5)
    while z < b - 1:
        x, pick = side * (plan.road + rng.uniform(0.4, 0.6)), rng.random()
        if plan.take(x, z, 0.3):
            if pick < plan.planted:
                solids += placed(things.tree(rng), x + side * 0.4, z, y=_KERB)
            elif pick < plan.planted + 0.25:
                solids += placed(things.sign(rng), x, z, rng.normal(0, 0.15) + np.pi * (rng.random() < 0.15), _KERB)
            elif pick < plan.planted + 0.45:
                solids += placed(things.lamp(rng, -side), x, z, y=_KERB)
            else:
                for step in range(rng.integers(1, 5)):
                    solids += placed(things.bollard(rng), x, z + 1.5 * step, y=_KERB)
        z += rng.uniform(3, 7)
    return solids


def _lots(rng, plan: _Plan, side: int, a: float, b: float) -> list[Solid]:
    """Houses and gardens behind the sidewalk, and what closes the view behind them."""
    solids, front, z = [], plan.road + plan.walk, a + 0.5
    while z < b - 4:
        long = min(rng.uniform(8, 16), b - 0.5 - z)
        built, setback = rng.random() < plan.town, rng.choice([0.0, rng.uniform(1.5, 6)])
        garden = setback if built else rng.uniform(9, 14)
        middle, deep = z + long / 2, rng.uniform(8, 12)
        if garden:
            lawn = block(NATURE, things.foliage(rng, 1.5), (0, 0, 0), (garden, 0.05, long))
            solids += placed([lawn], side * (front + garden / 2), middle, y=_KERB)
            solids += placed(_border(rng, long), side * (front + 0.15), middle, np.pi / 2, _KERB)
            for _ in range(rng.integers(1, 4) if built else rng.integers(3, 7)):
                grow = things.bush if garden < 4 or rng.random() < 0.4 else things.tree
                x = front + (rng.uniform(0.8, garden - 0.5) if garden > 1.6 else 0.9)
                solids += placed(grow(rng), side * x, z + rng.uniform(0.5, long - 0.5), y=_KERB)
        if built:
            solids += placed(things.house(rng, long, deep), side * (front + garden + deep / 2), middle)
        z += long
    back = things.house(rng, b - a - 1, 6) if rng.random() < 0.7 else []
    return solids + placed(back, side * (front + rng.uniform(22, 28)), (a + b) / 2)


def _border(rng, long: float) -> list[Solid]:
    """What parts a garden from the sidewalk: a fence, a hedge, a low wall, or nothing."""
    pick = rng.random()
    if pick < 0.6:
        return things.fence(rng, long)
    if pick < 0.75:
        return [block(NATURE, things.foliage(rng), (0, 0, 0), (long, rng.uniform(0.8, 1.8), 0.7))]
    if pick < 0.88:
        stone = masonry(rng, rng.uniform(0.15, 0.4) * np.array((1, 0.85, 0.7)))
        return [block(CONSTRUCTION, stone, (0, 0, 0), (long, rng.uniform(0.5, 1.3), 0.3))]
    return []


def _closing(rng, plan: _Plan) -> list[Solid]:
    """The row of houses or trees the street runs up to, and those at the ends of the side streets."""
    solids, x = [block(SIDEWALK, paving(rng), (0, 0, plan.end + 20), (2 * _ASIDE + 60, _KERB, 40))], -_ASIDE - 25
    while x < _ASIDE + 25:
        wide = rng.uniform(10, 20)
        if rng.random() < plan.town:
            solids += placed(things.house(rng, wide, 10), x + wide / 2, plan.end + 9, np.pi / 2)
        else:
            for _ in range(4):
                solids += placed(things.tree(rng), x + rng.uniform(0, wide), plan.end + rng.uniform(3, 9))
        x += wide
    for z, half, sides in plan.crossings:
        for side in sides:
            solids += placed(things.house(rng, 2 * half + 24, 8), side * (_ASIDE + rng.uniform(4, 30)), z)
    return solids
