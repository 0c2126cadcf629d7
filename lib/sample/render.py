"""Ray casting: the first solid along each ray of any camera, its class and its lit colour.

Rays are grouped in small square tiles. A solid is tested only in tiles whose bundle of rays can meet its bounding box,
nearest solids first, and not behind a tile's solid foreground. Each ray is coloured once, by the solid it hit.
"""

from functools import lru_cache

import numpy as np

from lib.camera.models import Camera
from lib.dataset.classes import BACKGROUND, SKY
from lib.sample.overlay import CameraOverlay
from lib.sample.sensor import Sensor
from lib.sample.solids import Solid, multiply
from lib.sample.street import Street, random_street
from lib.sample.textures import blend
from lib.sample.weather import Shadows

_TILE = 16
_BATCH = 256  # tiles at a time: a few dozen MB of rays and colours
_SUBPIXELS = np.array([(-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25)], dtype=np.float32)


def render(
    scene_seed, camera: Camera, sensor: Sensor | None = None, overlay: CameraOverlay | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Render a random street and its label.

    Street and camera position depend on the seed alone: two cameras see the same scene.

    Args:
        scene_seed: an int or a sequence of ints.
        camera: any model of :mod:`lib.camera.models`.
        sensor: tone and noise; None for a neutral sensor without noise.
        overlay: lens circle and hood; None for none.

    Returns:
        Image ``uint8 (height, width, 3)`` RGB and label ``uint8 (height, width)``: the class that the ray through each
        pixel's centre hits, BACKGROUND in the overlay and outside the lens's domain.
    """
    size = (camera.width, camera.height)
    centres, across, down, visible = _pixel_rays(camera)
    if overlay is not None:
        visible = visible & ~overlay.hidden(size)
    image, label = _cast(random_street(scene_seed), size, (centres, across, down), visible)
    if overlay is not None:
        image = overlay.paste(image)
        label[overlay.mask(size)] = BACKGROUND
    rng = np.random.default_rng([*np.atleast_1d(scene_seed), 1])
    return (sensor or Sensor()).develop(image, rng), label


@lru_cache(maxsize=2)
def _pixel_rays(camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the rays of the pixel centres, their change per pixel in x and in y, and the pixels that have a ray.

    The shapes are ``float32 (height, width, 3)``, three times, and ``bool (height, width)``.
    """
    rays: np.ndarray = camera.rays().astype(np.float32)
    visible: np.ndarray = np.isfinite(rays).all(axis=-1)
    rays[~visible] = (0, 0, 1)
    down, across = np.gradient(rays, axis=(0, 1))
    inner = visible.copy()
    for axis in (0, 1):
        inner &= np.roll(visible, 1, axis) & np.roll(visible, -1, axis)
    across[~inner], down[~inner] = 0, 0
    return rays, across, down, visible


def _cast(scene: Street, size: tuple[int, int], pixel_rays, visible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return an sRGB image ``float32 (height, width, 3)`` in 0-1 and its label; black and BACKGROUND if not visible."""
    width, height = size
    image = np.zeros((height, width, 3), dtype=np.float32)
    label = np.full((height, width), BACKGROUND, dtype=np.uint8)
    classes = np.array([solid.label for solid in scene.solids] + [SKY], dtype=np.uint8)
    shadows = Shadows(scene.solids, scene.weather.sun)
    tiles = [(y, x) for y in range(0, height, _TILE) for x in range(0, width, _TILE)]
    corners = np.array([(y, x) for y, x in tiles if visible[y : y + _TILE, x : x + _TILE].any()])
    for start in range(0, len(corners), _BATCH):
        y, x = corners[start : start + _BATCH].T[:, :, None]
        rows = np.minimum(y + np.repeat(np.arange(_TILE), _TILE), height - 1)
        columns = np.minimum(x + np.tile(np.arange(_TILE), _TILE), width - 1)
        centre, across, down = (
            multiply(scene.rotation.astype(np.float32), part[rows, columns].transpose(2, 0, 1)) for part in pixel_rays
        )
        rays = np.concatenate([centre, *(centre + across * dx + down * dy for dx, dy in _SUBPIXELS)], axis=2)
        coloured = np.arange(rays.shape[2]) >= _TILE**2
        distance, hit = _trace(scene, rays, coloured)
        label[rows, columns] = classes[hit[:, ~coloured]]
        colour = _shade(scene, shadows, rays[:, :, coloured], distance[:, coloured], hit[:, coloured])
        image[rows, columns] = colour.reshape(len(rows), len(_SUBPIXELS), -1, 3).mean(axis=1)
    image[~visible], label[~visible] = 0, BACKGROUND
    return np.clip(image, 0, 1) ** np.float32(1 / 2.2), label


def _trace(scene: Street, rays: np.ndarray, through: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distance ``float32 (T, N)`` and index ``int16 (T, N)`` of the first solid along ``rays (3, T, N)``.

    The sky has distance inf and index -1. Rays with ``through (N,)`` pass through the solids' holes.
    """
    distance = np.full(rays.shape[1:], np.inf, dtype=np.float32)
    hit = np.full(rays.shape[1:], -1, dtype=np.int16)
    near = _nearest(scene, rays)
    filled = np.full(len(distance), np.inf)
    for index in np.argsort(near.min(axis=1), kind="stable"):
        tiles = np.flatnonzero(near[index] < filled)
        if not len(tiles):
            continue
        t = scene.solids[index].intersect(scene.origin, rays[:, tiles], through)
        closer = t < distance[tiles]
        met = closer.any(axis=1)
        tiles, closer = tiles[met], closer[met]
        distance[tiles] = np.where(closer, t[met], distance[tiles])
        hit[tiles] = np.where(closer, np.int16(index), hit[tiles])
        filled[tiles] = distance[tiles].max(axis=1)
    return distance, hit


def _nearest(scene: Street, rays: np.ndarray) -> np.ndarray:
    """Return the least distance at which each tile's ``rays (3, T, N)`` can meet each solid, ``float64 (S, T)``.

    The distance is inf where the rays miss the solid's bounding box. A ray o + t d with d between ``low`` and ``high``
    is in the box at t only if t high >= the box's low side and t low <= its high side on every axis. Each of these
    conditions bounds t from below or from above.
    """
    low, high = rays.min(axis=2).astype(float), rays.max(axis=2).astype(float)
    boxes = np.array([solid.bounds for solid in scene.solids]) - scene.origin
    first = np.zeros((len(boxes), rays.shape[1]))
    last = np.full_like(first, np.inf)
    for axis in range(3):
        for direction, side in ((high[axis], boxes[:, 0, axis]), (-low[axis], -boxes[:, 1, axis])):
            direction = np.where(np.abs(direction) < 1e-9, 1e-9, direction)
            t = side[:, None] / direction
            first = np.maximum(first, np.where(direction > 0, t, 0))
            last = np.minimum(last, np.where(direction > 0, np.inf, t))
    return np.where(first <= last + 1e-4, first * (1 - 1e-4), np.inf)


def _shade(scene: Street, shadows: Shadows, rays: np.ndarray, distance: np.ndarray, hit: np.ndarray) -> np.ndarray:
    """Return the linear colour ``float32 (T * N, 3)`` of traced ``rays (3, T, N)``."""
    rays, distance, hit = rays.reshape(3, -1), distance.ravel(), hit.ravel()
    colour = np.empty((hit.size, 3), dtype=np.float32)
    order = np.argsort(hit, kind="stable")
    ids, starts = np.unique(hit[order], return_index=True)
    for index, part in zip(ids, np.split(order, starts[1:]), strict=True):
        ray = rays[:, part]
        if index < 0:
            colour[part] = scene.weather.sky(ray)
        else:
            points = scene.origin.astype(np.float32)[:, None] + distance[part] * ray
            colour[part] = _surface(scene, shadows, scene.solids[index], points, distance[part])
    return colour


def _surface(scene: Street, shadows: Shadows, solid: Solid, points: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Return the linear colour ``float32 (N, 3)`` of a solid at world ``points (3, N)``: albedo, sun, sky and haze."""
    weather, rotation = scene.weather, solid.rotation.astype(np.float32)
    local = multiply(rotation, points - solid.centre.astype(np.float32)[:, None])
    normals = solid.normals(local)
    sun = np.clip(multiply((rotation @ weather.sun.astype(np.float32))[None], normals)[0], 0, 1)
    up = multiply(rotation[:, 1][None], normals)[0]
    sky = 0.72 + 0.28 * up
    if solid.bounds[1][1] < 0.3:  # road, sidewalk, lawn
        sunlit, open_sky = shadows.at(points)
        sun, sky = sun * sunlit, sky * (0.35 + 0.65 * open_sky)
    light = sun[:, None] * weather.direct.astype(np.float32) + sky[:, None] * weather.ambient.astype(np.float32)
    albedo, clear = solid.material(local, normals), np.exp(-distance / np.float32(weather.visibility))
    return blend(albedo * light, weather.haze, 1 - clear)
