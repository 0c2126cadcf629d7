"""Plumb-line calibration: the fisheye lens, and each frame's street directions, that make edges straight.

The rays of a straight line lie in a plane through the optical centre. That leaves the stretch of the world along the
optical axis open; the right angles of streets settle it. Robust least squares fits the lens and all frames' directions
at once, while the planes have a closed form (variable projection; Golub & Pereyra, Inverse Problems 2003).
"""

from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from lib.camera.models import Fisheye
from lib.target.edges import Edges

PARAMETERS = ("cx", "cy", "log f", "k1", "k2", "k3", "k4")
"""A lens in this module: ``float64 (7,)`` of these, in pixels of the edges."""
DIRECTIONS = ("vertical", "along the street", "across the street", "any other direction")
"""Kinds of edges, by index."""
INLIER_WEIGHT = 0.25
"""Weight above which an edge is taken for a straight line."""
_LARGEST_ANGLE = np.radians(115)  # no lens of a car sees farther from its axis
_GRID = 500
_TILT = 0.2  # rad: expected deviation of the street's down from the image's
_NOISE = 0.5  # pixels: deviation of a straight edge's points
_POINTS_WORTH = 0.4  # points of an edge are not independent: 10 of them count as 4
_INDEPENDENT, _SAME_STREET = 0.15, 0.3
"""Likeness up to which frames are independent, and from which they tell nothing new: the same houses and kerbs."""
_SCALES = (3.0, 2.0, 1.5, 1.0, 1.0, 0.7, 0.7, 0.5, 0.5, 0.5, 0.5, 0.5)
"""Per step, the deviation (pixels) at which an edge's weight falls to a quarter; wide at first, to converge."""
_LARGEST_STEP = np.array([20, 20, 0.1, 0.05, 0.02, 0.01, 0.005])  # of PARAMETERS, so that the lens stays monotonic
_LARGEST_TURN = 0.1  # rad
_NUDGES = np.diag([1e-2, 1e-2, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4])  # of PARAMETERS, for finite differences
_PIXEL = 1e-2 * np.eye(2)
_FEWEST = 10  # edges
_START_FRAMES = 30
_STARTS = (-0.5, -0.25, 0.0, 0.25, 0.5)  # log focal length, relative to the expected one


@dataclass(frozen=True)
class Prior:
    """Expected lens, ``float64 (7,)`` each, of PARAMETERS."""

    mean: np.ndarray
    deviation: np.ndarray


@dataclass(frozen=True)
class Fit:
    """A fitted lens; its covariance counts frames that show the same once, and how far frames disagree."""

    lens: np.ndarray  # float64 (7,), PARAMETERS
    covariance: np.ndarray  # float64 (7, 7), of the lens
    directions: np.ndarray  # float64 (frames, 3, 3), rows: down, along and across the street, in camera rays
    kind: np.ndarray  # int (E,), index in DIRECTIONS of each edge
    weight: np.ndarray  # float64 (E,), 0-1
    deviation: np.ndarray  # float64 (E,), pixels (root mean square) of each edge from its straight line
    cost: float  # lower is better

    def summary(self) -> str:
        """Return the evidence in one sentence."""
        inlier = self.weight > INLIER_WEIGHT
        down, along, across, other = np.bincount(self.kind[inlier], minlength=4)
        deviation = np.median(self.deviation[inlier]) if inlier.any() else np.nan
        return (
            f"{inlier.sum()} edges straightened to {deviation:.2f} px (median): {down} vertical, {along} along the "
            f"street, {across} across it, {other} of any other direction; {(~inlier).sum()} outliers."
        )


def camera(lens: np.ndarray, size: tuple[int, int]) -> Fisheye:
    """Return PARAMETERS as a camera with images of ``size`` = (width, height)."""
    cx, cy, log_focal, *k = map(float, lens)
    focal = float(np.exp(log_focal))
    return Fisheye(int(size[0]), int(size[1]), focal, focal, cx, cy, (k[0], k[1], k[2], k[3]))


def visible_pixels(view: np.ndarray) -> np.ndarray:
    """Return some 2000 pixels (x, y) spread over a view ``bool (H, W)``, ``float64 (N, 2)``."""
    pixels = np.argwhere(view)[:, ::-1].astype(float)
    return pixels[:: max(1, len(pixels) // 2000)]


def rays(lens: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Return unit rays ``float64 (..., 3)`` of pixels ``(..., 2)`` by table; beyond the lens's domain, its rim's."""
    off = (pixels - lens[:2]) / np.exp(lens[2])
    radius = np.hypot(off[..., 0], off[..., 1])
    theta = np.linspace(0, _LARGEST_ANGLE, _GRID)
    table = theta * np.polynomial.polynomial.polyval(theta**2, (1.0, *lens[3:]))
    falls = np.flatnonzero(np.diff(table) <= 0)
    last = falls[0] + 1 if len(falls) else _GRID
    angle = np.interp(radius, table[:last], theta[:last])
    across = np.sin(angle) / np.maximum(radius, 1e-9)
    return np.concatenate([off * across[..., None], np.cos(angle)[..., None]], axis=-1)


def fit_best(edges: Edges, prior: Prior, view: np.ndarray) -> Fit | None:
    """Return the best fit from several focal lengths; None: few edges, or no lens covers the view, ``bool (H, W)``."""
    if len(edges.points) < _FEWEST:
        return None
    used, frame = np.unique(edges.frame, return_inverse=True)
    edges = Edges(edges.points, frame)
    # The choice of a start needs fewer frames than the last digits do.
    chosen = frame % max(1, round(len(used) / _START_FRAMES)) == 0
    few = Edges(edges.points[chosen], np.unique(frame[chosen], return_inverse=True)[1])
    cost = attrgetter("cost")
    starts = sorted((fit(few, prior.mean + step * np.eye(7)[2], prior) for step in _STARTS), key=cost)
    fits = [fit(edges, start.lens, prior) for start in starts[:3]]
    # With a good lens, the first guess of the streets' directions is better.
    fits.append(fit(edges, min(fits, key=cost).lens, prior))
    pixels, size = visible_pixels(view), view.shape[::-1]
    covering = [each for each in fits if np.isfinite(camera(each.lens, size).unproject(pixels)).all()]
    return min(covering, key=cost, default=None)


def fit(edges: Edges, lens: np.ndarray, prior: Prior) -> Fit:
    """Fit the lens to edges, from the start ``lens`` (7,)."""
    directions = _first_directions(edges, rays(lens, edges.points))
    for scale in _SCALES:
        step, turns, _ = _linearise(edges, lens, directions, prior, scale)
        lens = lens + np.clip(step, -_LARGEST_STEP, _LARGEST_STEP)
        turns = np.clip(turns, -_LARGEST_TURN, _LARGEST_TURN)
        # The decomposition makes the turned directions perpendicular again.
        u, _, v = np.linalg.svd(directions + np.cross(turns[:, None], directions))
        directions = u @ v
    return _linearise(edges, lens, directions, prior, _SCALES[-1])[2]


def _first_directions(edges: Edges, seen: np.ndarray) -> np.ndarray:
    """Guess each frame's directions ``(frames, 3, 3)``: the street runs where most edges lead."""
    normals = np.linalg.eigh(np.einsum("epi,epj->eij", seen, seen))[1][..., 0]
    length = np.arccos(np.clip((seen[:, 0] * seen[:, -1]).sum(-1), -1, 1))
    tilt, yaw = np.array(np.meshgrid(np.linspace(-0.3, 0.3, 9), np.radians(np.arange(-45, 45, 2.5)))).reshape(2, -1)
    down = np.stack([0 * tilt, np.cos(tilt), np.sin(tilt)], axis=-1)
    ahead = np.stack([0 * tilt, -np.sin(tilt), np.cos(tilt)], axis=-1)
    cos, sin, right = np.cos(yaw)[:, None], np.sin(yaw)[:, None], np.eye(3)[0]
    candidates = np.stack([down, cos * ahead + sin * right, cos * right - sin * ahead], axis=1)
    likely = np.exp(-0.5 * (tilt / _TILT) ** 2)

    def best(members: np.ndarray) -> np.ndarray:
        off = np.abs(np.einsum("kai,ei->eka", candidates, normals[members])).min(axis=-1)
        votes = length[members] @ np.exp(-0.5 * (off / 0.03) ** 2)
        return candidates[(votes * likely).argmax()]

    return np.stack([best(edges.frame == i) for i in range(edges.frame[-1] + 1)])


def _linearise(edges: Edges, lens, directions, prior: Prior, scale: float) -> tuple[np.ndarray, np.ndarray, Fit]:
    """Return a Gauss-Newton step of the lens (7,), one of the directions ``(frames, 3)``, and the fit before them."""
    seen = rays(lens, edges.points)
    normal, direction, ways, kind = _fit_planes(seen, directions[edges.frame], np.exp(lens[2]), scale)
    off = (seen * normal).sum(-1)
    slopes = np.stack([((rays(lens, edges.points + d) - seen) * normal).sum(-1) / d.sum() for d in _PIXEL], axis=-1)
    to_pixels = 1 / np.maximum(np.linalg.norm(slopes, axis=-1), 1e-6)  # Sampson's distance
    # Derivatives are taken where the plane meets the image. At the edge's own points a longer focal length would
    # seem to bring every ray nearer to its plane, and all lenses would come out too long.
    foot = edges.points - slopes * (off * to_pixels**2)[..., None]
    foot_rays = rays(lens, foot)
    by_lens = np.stack([((rays(lens + d, foot) - foot_rays) * normal).sum(-1) / d.sum() for d in _NUDGES], axis=-1)
    along = (foot_rays * direction).sum(-1)
    by_turn = -along[..., None] * np.cross(direction, normal)
    residual, by_lens, by_turn = (
        _project_out(ways, foot_rays, to_pixels, value * to_pixels[..., None])
        for value in (off[..., None], by_lens, by_turn)
    )
    deviation = np.sqrt((residual[..., 0] ** 2).mean(axis=1))
    weight = 1 / (1 + (deviation / scale) ** 2) ** 2  # Geman-McClure
    step, turns, covariance = _solve(edges, lens, directions, prior, weight, residual, by_lens, by_turn)
    lost = scale**2 * (1 - 1 / (1 + (deviation / scale) ** 2))
    cost = 4 * lost.sum() / _NOISE**2 + (((lens - prior.mean) / prior.deviation) ** 2).sum()
    return step, turns, Fit(lens, covariance, directions, kind, weight, deviation, float(cost))


def _fit_planes(seen: np.ndarray, directions: np.ndarray, focal: float, scale: float) -> tuple[np.ndarray, ...]:
    """Fit each edge's plane freely and through each direction; a direction is kept if it costs little.

    Returns the planes' normals ``(E, 1, 3)``, the directions in them ``(E, 1, 3)`` (0 for kind 3), the vectors
    ``(E, 2, 3)`` towards which normals can still turn (the second 0 where there is one), and the kinds ``(E,)``.
    """
    scatter = np.einsum("epi,epj->eij", seen, seen) / seen.shape[1]
    values, vectors = np.linalg.eigh(scatter)
    inside = directions @ scatter @ directions.transpose(0, 2, 1)  # in the directions' own coordinates
    b, c = [1, 2, 0], [2, 0, 1]  # the other two directions
    p, q, r = inside[:, b, b], inside[:, b, c], inside[:, c, c]
    angle = 0.5 * np.arctan2(-2 * q, r - p)[..., None]  # the smaller eigenvalue's eigenvector
    normals = np.cos(angle) * directions[:, b] + np.sin(angle) * directions[:, c]
    off = np.sqrt(np.maximum(0.5 * (p + r) - np.hypot(0.5 * (p - r), q), 0)) * focal
    kind, edge = off.argmin(axis=1), np.arange(len(seen))
    kind[off[edge, kind] ** 2 > np.maximum(values[:, 0], 0) * focal**2 + (2 * scale) ** 2] = 3
    free = (kind == 3)[:, None]
    axis = np.minimum(kind, 2)
    normal = np.where(free, vectors[..., 0], normals[edge, axis])
    direction = np.where(free, 0, directions[edge, axis])
    first = np.where(free, vectors[..., 1], np.cross(normal, direction))
    second = np.where(free, vectors[..., 2], 0)
    return normal[:, None], direction[:, None], np.stack([first, second], axis=1), kind


def _project_out(ways: np.ndarray, seen: np.ndarray, to_pixels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return ``values (E, P, n)`` less the part that a turn of the edges' planes makes up for."""
    basis = np.zeros((len(seen), 0, seen.shape[1]))
    for way in ways.transpose(1, 0, 2):
        move = (seen * way[:, None]).sum(-1) * to_pixels
        move = move - np.einsum("ekp,ekq,eq->ep", basis, basis, move)
        move /= np.maximum(np.linalg.norm(move, axis=1, keepdims=True), 1e-9)
        basis = np.append(basis, move[:, None], axis=1)
    return values - np.einsum("ekp,ekn->epn", basis, np.einsum("ekq,eqn->ekn", basis, values))


def _solve(edges: Edges, lens, directions, prior: Prior, weight, residual, by_lens, by_turn) -> tuple[np.ndarray, ...]:
    """Return the normal equations' step, turns (eliminated first, frame by frame) and the lens's covariance."""
    worth = _POINTS_WORTH * weight / _NOISE**2
    starts = np.flatnonzero(np.diff(edges.frame, prepend=-1))

    def summed(a, b):
        return np.add.reduceat(np.einsum("epi,epj,e->eij", a, b, worth), starts)

    ll, lt, tt = summed(by_lens, by_lens), summed(by_lens, by_turn), summed(by_turn, by_turn)
    gl, gt = summed(by_lens, residual)[..., 0], summed(by_turn, residual)[..., 0]
    # Down is expected near the image's down; the turn about it is damped, for frames without evidence of it.
    tt = tt + np.eye(3) / _TILT**2
    gt = gt - np.cross(directions[:, 0], np.array([0.0, 1.0, 0.0])) / _TILT**2
    inverse = np.linalg.inv(tt)
    gradient = gl - (lt @ inverse @ gt[..., None])[..., 0]
    certain = 1 / prior.deviation**2
    information = ll - lt @ inverse @ lt.transpose(0, 2, 1)
    hessian = information.sum(axis=0) + np.diag(certain)
    step = -np.linalg.solve(hessian, gradient.sum(axis=0) + (lens - prior.mean) * certain)
    turns = -(inverse @ (gt + (lt.transpose(0, 2, 1) @ step))[..., None])[..., 0]
    # Frames of the same street err alike: a frame's variance counts as often as it has frames like it, which bounds the
    # covariance between them. To its expected variance comes how far the frame disagrees (Liang & Zeger 1986).
    alike = np.clip((edges.likeness - _INDEPENDENT) / (_SAME_STREET - _INDEPENDENT), 0, 1)
    variance = information + np.einsum("fi,fj->fij", gradient, gradient)
    spread = np.einsum("f,fij->ij", alike.sum(axis=1), variance)
    flat = np.linalg.inv(hessian)
    return step, turns, flat @ (spread + np.diag(certain)) @ flat
