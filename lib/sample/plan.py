"""Plan of a street: its measures, its crossings, and the ground that objects occupy."""

from dataclasses import dataclass, field

import numpy as np

KERB = 0.13
"""Height of the sidewalks (m)."""
_SIDES: tuple[tuple[int, ...], ...] = ((-1, 1), (-1, 1), (-1,), (1,))
_START = -22.0  # z of the sidewalks' ends behind the camera, metres


@dataclass
class StreetPlan:
    """Measures of a street in metres, and the occupied ground.

    Args:
        road: half the road's width.
        walk: width of a sidewalk.
        parking: density of parked cars at the left and the right kerb, 0-1.
        crossings: (z, half the width, sides to which the side street leaves) of each crossing.
        end: z of the street's end.
        town: share of lots with a house.
        planted: share of kerb positions with a tree.
        occupied: (x, z, radius) of each object on the ground.
    """

    road: float
    walk: float
    parking: tuple[float, float]
    crossings: list[tuple[float, float, tuple[int, ...]]]
    end: float
    town: float
    planted: float
    occupied: list[tuple[float, float, float]] = field(default_factory=list)

    @property
    def lane(self) -> float:
        """Distance of a lane's middle from the road's."""
        return (self.road - 2.0 * (max(self.parking) > 0)) / 2

    def blocks(self, side: int) -> list[tuple[float, float]]:
        """Return the sidewalk's ranges of z between the side streets of one side (-1 or 1)."""
        cuts = [(z - half, z + half) for z, half, sides in self.crossings if side in sides]
        edges = [_START, *np.ravel(cuts), self.end - 9]
        return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a > 3]

    def occupy(self, x: float, z: float, radius: float) -> bool:
        """Occupy a disc of the ground if it is free, and return whether it was."""
        if any((x - a) ** 2 + (z - b) ** 2 < (radius + r) ** 2 for a, b, r in self.occupied):
            return False
        self.occupied.append((x, z, radius))
        return True


def random_plan(rng) -> StreetPlan:
    """Draw a plan."""
    left, right = rng.choice([0.0, 0.45, 0.85], size=2)
    parking = float(left), float(right)
    road = rng.uniform(3.4, 5.0) + 2.0 * (max(parking) > 0)
    end = rng.uniform(55, 150)
    crossings: list[tuple[float, float, tuple[int, ...]]] = []
    z = rng.uniform(-3, 7) if rng.random() < 0.2 else rng.uniform(10, 38)
    while z < end - 30:
        sides = _SIDES[rng.integers(4)]
        crossings.append((z, rng.uniform(3.5, 5.5), sides))
        z += rng.uniform(28, 60)
    walk = rng.uniform(1.9, 4.2)
    town, planted = rng.uniform(0.35, 0.95), rng.choice([0.1, 0.45])
    return StreetPlan(road, walk, parking, crossings, end, town, planted)
