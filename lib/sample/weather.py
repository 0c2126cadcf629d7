"""Weather: sunlight, haze and sky of a scene, and the shadows on its ground."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from lib.sample.solids import Solid
from lib.sample.textures import blend, noise, tint


@dataclass(frozen=True)
class Weather:
    """Light and sky; colours are linear RGB, ``float (3,)``.

    Args:
        sun: unit vector towards the sun, ``float (3,)``.
        direct: light of the sun on a surface that faces it.
        ambient: light of the sky on every surface.
        haze: colour of distant objects, and of the sky at the horizon.
        visibility: distance (m) at which 63 % of the colour is haze.
        zenith: colour of the sky overhead.
        cover: share of the sky under clouds, 0-1.
        shift: offset in the cloud pattern, ``float (2,)``.
    """

    sun: np.ndarray
    direct: np.ndarray
    ambient: np.ndarray
    haze: np.ndarray
    visibility: float
    zenith: np.ndarray
    cover: float
    shift: np.ndarray

    @classmethod
    def random(cls, rng) -> Weather:
        """Draw a weather between bright noon, overcast sky and late afternoon."""
        cover, azimuth = rng.random() ** 1.4, rng.uniform(0, 2 * np.pi)
        height = rng.uniform(0.3, 1.2)
        low = np.clip((0.7 - height) / 0.4, 0, 1)
        sun = np.array([np.cos(height) * np.sin(azimuth), np.sin(height), np.cos(height) * np.cos(azimuth)])
        bright = rng.uniform(0.55, 1.1)
        direct = (1 - cover) ** 0.6 * 2.1 * bright * np.array([1.0, 0.94 - 0.2 * low, 0.85 - 0.35 * low])
        ambient = bright * (np.array([0.36, 0.42, 0.52]) + cover * np.array([0.5, 0.48, 0.42]))
        grey = bright * (0.55 + 0.25 * rng.random()) * np.array([0.97, 1.0, 1.04])
        haze = grey * (1 + low * (1 - cover) * np.array([0.25, 0.0, -0.25]))
        dull = cover**2
        zenith = bright * ((1 - dull) * np.array([0.08, 0.22, 0.58]) + dull * np.array([0.42, 0.45, 0.5]))
        return cls(sun, direct, ambient, haze, rng.uniform(180, 1000), zenith, cover, rng.uniform(0, 20, 2))

    def sky(self, rays: np.ndarray) -> np.ndarray:
        """Return the colour of the sky along ``rays (3, N)``, ``float32 (N, 3)``."""
        up = np.clip(rays[1] / np.sqrt((rays * rays).sum(axis=0)), 0.0, 1.0)
        base = blend(tint(np.ones_like(up), self.haze), self.zenith, np.sqrt(up))
        scale = 1 / (rays[1] + np.float32(0.12) * np.sqrt((rays * rays).sum(axis=0))).clip(0.05)
        u, v = rays[0] * scale + np.float32(self.shift[0]), rays[2] * scale + np.float32(self.shift[1])
        dense = 0.75 * noise(u, v, 11) + 0.25 * noise(v, u, 3)
        cloud = np.clip((dense - 0.85 + 0.8 * self.cover) * 3, 0, 0.9) * np.clip(up * 9, 0, 1)
        shade = 1.15 - 0.45 * noise(u + 0.4, v + 0.3, 11) * self.cover
        return blend(base, tint(shade, self.haze * 1.15), cloud)


class Shadows:
    """Shares of sunlight and skylight that reach the ground, from two maps per scene.

    Upright surfaces get no shadows: their shading suffices, and maps of the ground are cheap.
    """

    _STEP, _LOW, _SIZE = 0.12, np.array([-42.0, -24.0]), (700, 1100)  # metres per cell, lowest (x, z), cells

    def __init__(self, solids: Iterable[Solid], sun: np.ndarray):
        first, last = self._LOW - 15, self._LOW + np.array(self._SIZE) * self._STEP + 15
        standing = [solid for solid in solids if solid.half[1] > 0.13 and solid.centre[1] > 0]
        standing = [s for s in standing if ((s.centre[::2] > first) & (s.centre[::2] < last)).all()]
        close = [s for s in standing if s.bounds[0][1] < 0.5 and s.half.max() < 3]
        self._sun = cv2.GaussianBlur(self._light_map(standing, sun), (0, 0), 0.8)
        self._sky = cv2.GaussianBlur(self._light_map(close, np.array([0.0, 1.0, 0.0])), (0, 0), 3)

    def _light_map(self, solids: list[Solid], direction: np.ndarray) -> np.ndarray:
        light = np.full(self._SIZE[::-1], 255, dtype=np.uint8)
        for solid in solids:
            points = solid.corners()
            ground = points - points[:, 1:2] / direction[1] * direction
            cells = np.round((ground[:, ::2] - self._LOW) / self._STEP).clip(-30000, 30000).astype(np.int32)
            cv2.fillConvexPoly(light, cv2.convexHull(cells), 0)
        return light

    def at(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return sunlight and skylight in 0-1 at world ``points (3, N)`` near the ground, ``float32 (N,)`` each."""
        cells = (points[::2] - self._LOW.astype(np.float32)[:, None]) / np.float32(self._STEP)
        column, row = np.floor(cells).astype(np.int32)
        inside = (column >= 0) & (column < self._SIZE[0]) & (row >= 0) & (row < self._SIZE[1])
        cell = np.where(inside, row * self._SIZE[0] + column, 0)
        maps = self._sun, self._sky
        sun, sky = (np.where(inside, light.ravel()[cell], 255) / np.float32(255) for light in maps)
        return sun, sky
