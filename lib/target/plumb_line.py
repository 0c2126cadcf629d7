"""The lens that makes edges straight: a robust fit of a fisheye, and of each frame's street directions, to edges.

A straight line is seen as a great circle: its rays lie in a plane through the optical centre. That alone leaves one
number open, since stretching the world along the optical axis (tan theta -> s tan theta) keeps all lines straight.
The right angles of streets settle it: where an edge runs along one of a frame's three directions (up, along the
street, across it), its plane must contain that direction, and the three directions are at right angles.

Least squares over the lens and all frames' directions at once, edges that fit neither weighted down. A plane's
normal is not a variable: for any lens the best one is known in closed form, and steps account for it (variable
projection; Golub & Pereyra, "Separable nonlinear least squares", Inverse Problems 2003).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PARAMETERS = ("cx", "cy", "log f", "k1", "k2", "k3", "k4")
_REACH = np.radians(115)  # no lens of a car sees farther from its axis
_GRID = 500
_TILT = 0.2  # rad: how far the street's up is expected to be from the image's
_NOISE = 0.5  # pixels: what a straight edge's points deviate by
_POINTS_WORTH = 0.4  # points of an edge are not independent: 10 of them count as 4
_BLOCKS = 12
"""Frames are taken as independent in this many runs of neighbours: those of a drive show the same houses."""
_SCALES = (3.0, 2.0, 1.5, 1.0, 1.0, 0.7, 0.7, 0.5, 0.5, 0.5, 0.5, 0.5)
"""Per step, the deviation (pixels) at which an edge loses its say: wide at first, to be drawn in from afar."""
_LARGEST = np.array([20, 20, 0.1, 0.05, 0.02, 0.01, 0.005])  # step of PARAMETERS, so that the lens stays one
_LARGEST_TURN = 0.1  # rad
_NUDGES = np.diag([1e-2, 1e-2, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4])  # of PARAMETERS, for derivatives by differences
_PIXEL = 1e-2 * np.eye(2)


@dataclass(frozen=True)
class Edges:
    """Edges of several frames.

    Attributes:
        points: ``float64 (E, P, 2)`` pixels along each edge.
        frame: ``int (E,)``, ascending, each number from 0 to the last used.
    """

    points: np.ndarray
    frame: np.ndarray

    @property
    def frames(self) -> int:
        return int(self.frame[-1]) + 1 if len(self.frame) else 0


@dataclass(frozen=True)
class Prior:
    """What is expected of the lens: ``mean`` and ``deviation``, ``float64 (7,)`` each, of PARAMETERS."""

    mean: np.ndarray
    deviation: np.ndarray


@dataclass(frozen=True)
class Fit:
    """A fitted lens.

    Attributes:
        lens: ``float64 (7,)``, PARAMETERS.
        covariance: ``float64 (7, 7)`` of the lens, from how far runs of neighbouring frames disagree ("sandwich";
            Liang & Zeger, "Longitudinal data analysis using generalized linear models", Biometrika 1986).
        directions: ``float64 (frames, 3, 3)``, rows: down, along and across the street, in camera rays.
        kind: ``int (E,)``, the direction an edge runs along; 3: any other.
        weight: ``float64 (E,)``, 0-1, an edge's say.
        deviation: ``float64 (E,)``, pixels (root mean square) from the straight line.
        cost: lower is better.
    """

    lens: np.ndarray
    covariance: np.ndarray
    directions: np.ndarray
    kind: np.ndarray
    weight: np.ndarray
    deviation: np.ndarray
    cost: float


def rays(lens: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Unit rays ``float64 (..., 3)`` of pixels ``(..., 2)``, from a table; beyond the lens's reach, its rim's."""
    off = (pixels - lens[:2]) / np.exp(lens[2])
    radius = np.hypot(off[..., 0], off[..., 1])
    theta = np.linspace(0, _REACH, _GRID)
    table = theta * np.polynomial.polynomial.polyval(theta**2, (1.0, *lens[3:]))
    falls = np.flatnonzero(np.diff(table) <= 0)
    last = falls[0] + 1 if len(falls) else _GRID
    angle = np.interp(radius, table[:last], theta[:last])
    across = np.sin(angle) / np.maximum(radius, 1e-9)
    return np.concatenate([off * across[..., None], np.cos(angle)[..., None]], axis=-1)


def fit(edges: Edges, lens: np.ndarray, prior: Prior) -> Fit:
    """The lens near ``lens`` (7,) that fits the edges best."""
    directions = _directions(edges, rays(lens, edges.points))
    for scale in _SCALES:
        step = _linearised(edges, lens, directions, prior, scale)
        lens = lens + np.clip(step.lens, -_LARGEST, _LARGEST)
        directions = _turned(directions, np.clip(step.turns, -_LARGEST_TURN, _LARGEST_TURN))
    last = _linearised(edges, lens, directions, prior, _SCALES[-1])
    return Fit(lens, last.covariance, directions, last.kind, last.weight, last.deviation, last.cost)


@dataclass(frozen=True)
class _Step:
    lens: np.ndarray
    turns: np.ndarray
    covariance: np.ndarray
    kind: np.ndarray
    weight: np.ndarray
    deviation: np.ndarray
    cost: float


def _directions(edges: Edges, seen: np.ndarray) -> np.ndarray:
    """First guess of each frame's directions ``(frames, 3, 3)``: down is down, the street where most edges lead."""
    normals = np.linalg.eigh(np.einsum("epi,epj->eij", seen, seen))[1][..., 0]
    length = np.arccos(np.clip((seen[:, 0] * seen[:, -1]).sum(-1), -1, 1))
    tilts = np.array(np.meshgrid(np.linspace(-0.3, 0.3, 9), np.radians(np.arange(-45, 45, 2.5)))).reshape(2, -1).T
    candidates = np.array([_upright(tilt, yaw) for tilt, yaw in tilts])
    likely = np.exp(-0.5 * (tilts[:, 0] / _TILT) ** 2)

    def best(own: np.ndarray) -> np.ndarray:
        off = np.abs(np.einsum("kai,ei->eka", candidates, normals[own])).min(axis=-1)
        votes = length[own] @ np.exp(-0.5 * (off / 0.03) ** 2)
        return candidates[(votes * likely).argmax()]

    return np.stack([best(edges.frame == i) for i in range(edges.frames)])


def _upright(tilt: float, yaw: float) -> np.ndarray:
    down = np.array([0, np.cos(tilt), np.sin(tilt)])
    ahead = np.array([0, -np.sin(tilt), np.cos(tilt)])
    right = np.array([1.0, 0, 0])
    return np.array([down, np.cos(yaw) * ahead + np.sin(yaw) * right, np.cos(yaw) * right - np.sin(yaw) * ahead])


def _turned(directions: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Directions turned by small rotation vectors ``(frames, 3)``, at right angles again."""
    moved = directions + np.cross(turns[:, None], directions)
    u, _, v = np.linalg.svd(moved)
    return u @ v


def _linearised(edges: Edges, lens, directions, prior: Prior, scale: float) -> _Step:
    """One Gauss-Newton step of the lens (7,) and of each frame's directions (rotation vectors)."""
    seen = rays(lens, edges.points)
    planes = _planes(seen, directions[edges.frame], np.exp(lens[2]), scale)
    normal = planes.normal[:, None]
    off = (seen * normal).sum(-1)
    slopes = np.stack([((rays(lens, edges.points + d) - seen) * normal).sum(-1) / d.sum() for d in _PIXEL], axis=-1)
    to_pixels = 1 / np.maximum(np.linalg.norm(slopes, axis=-1), 1e-6)  # Sampson's distance
    # Derivatives are taken where the plane meets the image. At the edge's own points a longer focal length would
    # seem to bring every ray nearer to its plane, and all lenses would come out too long.
    foot = edges.points - slopes * (off * to_pixels**2)[..., None]
    there = rays(lens, foot)
    by_lens = np.stack([((rays(lens + d, foot) - there) * normal).sum(-1) / d.sum() for d in _NUDGES], axis=-1)
    along = (there * planes.direction[:, None]).sum(-1)
    by_turn = -along[..., None] * np.cross(planes.direction, planes.normal)[:, None]
    residual, by_lens, by_turn = (
        _without(planes, there, to_pixels, value * to_pixels[..., None]) for value in (off[..., None], by_lens, by_turn)
    )
    deviation = np.sqrt((residual[..., 0] ** 2).mean(axis=1))
    weight = 1 / (1 + (deviation / scale) ** 2) ** 2  # Geman-McClure
    return _solved(edges, lens, directions, prior, scale, (residual, by_lens, by_turn), planes.kind, weight, deviation)


@dataclass(frozen=True)
class _Planes:
    """Per edge, its plane through the optical centre: ``normal (E, 3)``, the street's ``direction (E, 3)`` it runs
    along (0 for kind 3), and the ``ways (E, 2, 3)`` its normal can still turn (the second 0 where there is one)."""

    normal: np.ndarray
    direction: np.ndarray
    ways: np.ndarray
    kind: np.ndarray


def _planes(seen: np.ndarray, directions: np.ndarray, focal: float, scale: float) -> _Planes:
    """Fit each edge's plane freely and through each direction; the direction stands if it costs little."""
    scatter = np.einsum("epi,epj->eij", seen, seen) / seen.shape[1]
    values, vectors = np.linalg.eigh(scatter)
    inside = directions @ scatter @ directions.transpose(0, 2, 1)  # in the directions' own coordinates
    found = []
    for axis in range(3):
        b, c = (axis + 1) % 3, (axis + 2) % 3
        p, q, r = inside[:, b, b], inside[:, b, c], inside[:, c, c]
        angle = 0.5 * np.arctan2(-2 * q, r - p)  # the smaller eigenvalue's eigenvector
        normal = np.cos(angle)[:, None] * directions[:, b] + np.sin(angle)[:, None] * directions[:, c]
        found.append((0.5 * (p + r) - np.hypot(0.5 * (p - r), q), normal))
    off = np.sqrt(np.maximum([value for value, _ in found], 0)) * focal
    kind = off.argmin(axis=0)
    one = np.arange(len(seen))
    kind[off[kind, one] ** 2 > np.maximum(values[:, 0], 0) * focal**2 + (2 * scale) ** 2] = 3
    free = (kind == 3)[:, None]
    pick = np.minimum(kind, 2)
    normal = np.where(free, vectors[..., 0], np.array([n for _, n in found])[pick, one])
    direction = np.where(free, 0, directions[one, pick])
    first = np.where(free, vectors[..., 1], np.cross(normal, direction))
    second = np.where(free, vectors[..., 2], 0)
    return _Planes(normal, direction, np.stack([first, second], axis=1), kind)


def _without(planes: _Planes, seen: np.ndarray, to_pixels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """``values (E, P, n)`` less what turning the edges' planes can make up for."""
    basis = np.zeros((len(seen), 0, seen.shape[1]))
    for way in planes.ways.transpose(1, 0, 2):
        move = (seen * way[:, None]).sum(-1) * to_pixels
        move = move - np.einsum("ekp,ekq,eq->ep", basis, basis, move)
        move /= np.maximum(np.linalg.norm(move, axis=1, keepdims=True), 1e-9)
        basis = np.append(basis, move[:, None], axis=1)
    return values - np.einsum("ekp,ekn->epn", basis, np.einsum("ekq,eqn->ekn", basis, values))


def _solved(edges: Edges, lens, directions, prior: Prior, scale, linear, kind, weight, deviation) -> _Step:
    """Normal equations; the frames' turns are eliminated first (each depends on its own frame alone)."""
    residual, by_lens, by_turn = linear
    worth = _POINTS_WORTH * weight / _NOISE**2
    starts = np.flatnonzero(np.diff(edges.frame, prepend=-1))

    def summed(a, b):
        return np.add.reduceat(np.einsum("epi,epj,e->eij", a, b, worth), starts)

    ll, lt, tt = summed(by_lens, by_lens), summed(by_lens, by_turn), summed(by_turn, by_turn)
    gl, gt = summed(by_lens, residual)[..., 0], summed(by_turn, residual)[..., 0]
    # Down is expected near the image's down; the turn about it is held a little, for frames that do not tell it.
    tt = tt + np.eye(3) / _TILT**2
    gt = gt - np.cross(directions[:, 0], np.array([0.0, 1.0, 0.0])) / _TILT**2
    inverse = np.linalg.inv(tt)
    reduced = ll - lt @ inverse @ lt.transpose(0, 2, 1)
    gradient = gl - (lt @ inverse @ gt[..., None])[..., 0]
    certain = 1 / prior.deviation**2
    hessian = reduced.sum(axis=0) + np.diag(certain)
    pull = (lens - prior.mean) * certain
    step = -np.linalg.solve(hessian, gradient.sum(axis=0) + pull)
    turns = -(inverse @ (gt + (lt.transpose(0, 2, 1) @ step))[..., None])[..., 0]
    runs = [run.sum(axis=0) for run in np.array_split(gradient, min(len(gradient), _BLOCKS))]
    spread = sum(np.outer(run, run) for run in runs)
    flat = np.linalg.inv(hessian)
    covariance = flat @ (spread + np.diag(certain)) @ flat
    lost = scale**2 * (1 - 1 / (1 + (deviation / scale) ** 2))
    cost = 4 * lost.sum() / _NOISE**2 + (((lens - prior.mean) / prior.deviation) ** 2).sum()
    return _Step(step, turns, covariance, kind, weight, deviation, float(cost))
