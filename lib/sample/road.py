"""The road's surface and its markings."""

import numpy as np

from lib.sample.plan import StreetPlan
from lib.sample.solids import Material
from lib.sample.textures import blend, cell_noise, noise, tint


def tarmac(rng, plan: StreetPlan) -> Material:
    """Return asphalt with patches and wheel tracks, lane lines, and zebra stripes and stop lines at crossings."""
    grey = rng.uniform(0.07, 0.26) * (1 + rng.uniform(-0.08, 0.08, 3))
    paint, wear, zebra = rng.uniform(0.4, 0.65), rng.uniform(0.2, 0.6), rng.random() < 0.6
    dash, edge = rng.uniform(4, 9), plan.road - 0.3 - 2.0 * (max(plan.parking) > 0)

    def material(p, n):
        x, _, z = p
        base = tint(0.75 + 0.3 * noise(x, z, 37) + 0.25 * noise(x, z, 2.3), grey)
        base *= 1 - 0.25 * ((cell_noise(x / 4, z / 7) < 0.07) & (np.abs(x) < plan.road))[:, None]
        base *= 1 - 0.12 * (np.abs(np.abs(np.abs(x) - plan.lane) - 0.8) < 0.3)[:, None]
        line = (np.abs(x) < 0.08) & (z % dash < dash / 2) | (np.abs(np.abs(x) - edge) < 0.06)
        for centre, half, _ in plan.crossings:
            away = np.abs(z - centre) - half
            line &= away > 1
            line |= zebra & (away > 1.4) & (away < 4.4) & (x % 1.1 < 0.55)
            line |= (np.abs(away - 5.2) < 0.2) & (x * (z - centre) < 0)
            line &= np.abs(x) < plan.road
            line |= (np.abs(z - centre) < 0.07) & (np.abs(x) > plan.road + 4) & (x % dash < dash / 2)
        return blend(base, (paint,) * 3, line * (1 - wear * noise(x, z, 5)))

    return material
