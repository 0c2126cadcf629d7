"""Make a source image look as if the target's sensor had taken it: colours, softness, noise, compression.

Two ways to match colours. ``statistics`` gives the image's channels the mean and spread of a target frame's (after
Reinhard et al., "Color transfer between images", IEEE CG&A 2001, but in RGB, by look-up tables). ``fourier`` mixes
the amplitudes of its lowest frequencies with the frame's (Yang & Soatto, "FDA: Fourier domain adaptation for semantic
segmentation", CVPR 2020). Both are worked out on small copies of whole images, so that a crop gets what the whole image would get.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

THUMBNAIL_SIZE = (128, 72)
"""(width, height) of the small copies."""
_LIMITS = (0.5, 2.0)  # of the change of spread: beyond, a flat image would turn into noise
_LOW = 2  # frequencies up to this many periods per image are mixed
_POOL = 1 << 22  # noise values to draw slices from: fresh noise takes ten times as long


def thumbnail(image: np.ndarray, view: np.ndarray | None = None) -> np.ndarray:
    """A small copy ``uint8 (72, 128, 3)``; what ``view`` (bool (H, W)) leaves out takes the mean colour of the rest."""
    grid = tuple(4 * n for n in THUMBNAIL_SIZE)  # of a large image, a grid of pixels is enough
    if image.shape[1] > grid[0] and image.shape[0] > grid[1]:
        image = cv2.resize(image, grid, interpolation=cv2.INTER_NEAREST)
    small = cv2.resize(image, THUMBNAIL_SIZE, interpolation=cv2.INTER_AREA)
    if view is None:
        return small
    seen = cv2.resize(view.astype(np.uint8), THUMBNAIL_SIZE, interpolation=cv2.INTER_AREA) > 0
    if seen.any():
        small[~seen] = small[seen].mean(axis=0).round()
    return small


def statistics(image: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Mean and standard deviation of the channels of ``uint8 (H, W, 3)`` where ``bool (H, W)``: ``float32 (2, 3)``."""
    values = (image.reshape(-1, 3) if mask is None else image[mask]).astype(np.float32)
    return np.stack([values.mean(axis=0), values.std(axis=0)])


def transfer(image: np.ndarray, found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """``uint8 (H, W, 3)`` RGB, changed as statistics ``found`` must be to become ``wanted``."""
    gain = np.clip(wanted[1] / np.maximum(found[1], 1e-3), *_LIMITS)
    tables = ((np.arange(256)[:, None] - found[0]) * gain + wanted[0]).round().clip(0, 255).astype(np.uint8)
    # One channel at a time is faster than all three in one call.
    return cv2.merge([cv2.LUT(one, table) for one, table in zip(cv2.split(image), tables.T.copy(), strict=True)])


def fourier_change(source: np.ndarray, target: np.ndarray, share: float = 1.0) -> np.ndarray:
    """What to add to the image of which ``source`` is the small copy, ``float32 (72, 128, 3)``.

    Args:
        source, target: from :func:`thumb`.
        share: how much of the target's amplitude is mixed in (0-1).
    """
    down, across = (
        np.exp(-2j * np.pi * np.outer(np.arange(-_LOW, _LOW + 1), np.arange(n)) / n).astype(np.complex64)
        for n in source.shape[:2]
    )
    # The lowest frequencies alone, three channels first: (3, 2 _LOW + 1, 2 _LOW + 1).
    own, other = (down @ image.transpose(2, 0, 1).astype(np.float32) @ across.T for image in (source, target))
    added = share * (np.abs(other) - np.abs(own)) * np.exp(1j * np.angle(own))
    back = down.conj().T @ added.astype(np.complex64) @ across.conj()
    return np.ascontiguousarray((back.real / np.prod(source.shape[:2])).transpose(1, 2, 0), dtype=np.float32)


@lru_cache(maxsize=1)
def _pool() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(_POOL, dtype=np.float32)


def add_noise(image: np.ndarray, deviation: float, start: float) -> np.ndarray:
    """``uint8 (H, W, 3)`` with normal noise; ``start`` in 0-1 chooses which."""
    pool, noisy = _pool(), np.empty_like(image)
    bands = -(-2 * image.size // pool.size)
    for band in np.array_split(np.arange(image.shape[0]), bands):
        rows = slice(band[0], band[-1] + 1)
        part = image[rows]
        first = int(start * (pool.size - part.size))
        noise = pool[first : first + part.size].reshape(part.shape)
        cv2.addWeighted(part, 1, noise, deviation, 0, dst=noisy[rows], dtype=cv2.CV_8U)
        start = (start + 0.618) % 1
    return noisy


def blur(image: np.ndarray, deviation: float) -> np.ndarray:
    """Gaussian blur of ``uint8 (H, W, 3)``; ``deviation`` in pixels, nothing happens below 0.3."""
    return image if deviation < 0.3 else cv2.GaussianBlur(image, (0, 0), deviation, borderType=cv2.BORDER_REPLICATE)


def compress(image: np.ndarray, quality: int) -> np.ndarray:
    """``uint8 (H, W, 3)`` RGB after JPEG compression at ``quality`` 1-100."""
    _, coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(coded, cv2.IMREAD_COLOR)  # channels go in and out in the same order


def darken(image: np.ndarray, strength: float, region: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray:
    """Vignette: brightness falls with the squared distance from the middle, by ``strength`` in the corners.

    Args:
        image: ``uint8 (h, w, 3)``.
        strength: 0-1.
        region: (x, y, width, height) of the whole image that ``image`` shows.
        size: (width, height) of the whole image.
    """
    x0, y0, width, height = region
    loss = _radius(size)[y0 : y0 + height, x0 : x0 + width]
    return cv2.subtract(image, cv2.multiply(image, loss, scale=strength / 255))


@lru_cache(maxsize=2)
def _radius(size: tuple[int, int]) -> np.ndarray:
    """Squared distance from the middle, 255 in the corners, ``uint8 (H, W, 3)``."""
    x, y = (np.linspace(-1, 1, n, dtype=np.float32) * (n - 1) for n in size)
    square = np.square(x)[None] + np.square(y)[:, None]
    return cv2.merge([np.round(255 / square[0, 0] * square).astype(np.uint8)] * 3)
