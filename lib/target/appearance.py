"""Appearance of the target's sensor: colours, blur, noise, compression and vignette.

Colours are compared in thumbnails of whole images, so that a crop gets the colours that the whole image would get.
"""

from functools import lru_cache

import cv2
import numpy as np

Region = tuple[int, int, int, int]
"""(x, y, width, height) of an image in a whole one."""
THUMBNAIL_SIZE = (128, 72)
"""(width, height) of thumbnails."""
_GAINS = (0.5, 2.0)  # limits of the change of deviation: beyond, a flat image would turn into noise
_LOW = 2  # periods per image up to which frequencies are mixed
_POOL = 1 << 22  # noise values from which slices are taken: fresh noise takes ten times as long


def thumbnail(image: np.ndarray, view: np.ndarray | None = None) -> np.ndarray:
    """Return a small copy, ``uint8 (72, 128, 3)``; pixels not in ``view``, ``bool (H, W)``, take the others' mean."""
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
    """Return mean and deviation of the channels of ``uint8 (H, W, 3)`` in ``bool (H, W)``, ``float32 (2, 3)``."""
    values = (image.reshape(-1, 3) if mask is None else image[mask]).astype(np.float32)
    return np.stack([values.mean(axis=0), values.std(axis=0)])


def transfer(image: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Change ``uint8 (H, W, 3)`` so that the statistics ``source`` become ``target`` (Reinhard et al. 2001)."""
    gain = np.clip(target[1] / np.maximum(source[1], 1e-3), *_GAINS)
    tables = ((np.arange(256)[:, None] - source[0]) * gain + target[0]).round().clip(0, 255).astype(np.uint8)
    return cv2.LUT(image, tables[None])


def fourier_change(source: np.ndarray, target: np.ndarray, share: float = 1.0) -> np.ndarray:
    """Return what to add to an image, ``float32 (72, 128, 3)``, from its thumbnail and a target frame's.

    Its lowest frequencies take a ``share`` (0-1) of the frame's amplitudes (Yang & Soatto, FDA, CVPR 2020).
    """
    down, across = (
        np.exp(-2j * np.pi * np.outer(np.arange(-_LOW, _LOW + 1), np.arange(n)) / n).astype(np.complex64)
        for n in source.shape[:2]
    )
    # ``(3, 2 _LOW + 1, 2 _LOW + 1)``
    ours, theirs = (down @ image.transpose(2, 0, 1).astype(np.float32) @ across.T for image in (source, target))
    added = share * (np.abs(theirs) - np.abs(ours)) * np.exp(1j * np.angle(ours))
    change = down.conj().T @ added.astype(np.complex64) @ across.conj()
    return np.ascontiguousarray((change.real / np.prod(source.shape[:2])).transpose(1, 2, 0), dtype=np.float32)


@lru_cache(maxsize=1)
def _noise_pool() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(_POOL, dtype=np.float32)


def add_noise(image: np.ndarray, deviation: float, place: float) -> np.ndarray:
    """Add normal noise to ``uint8 (H, W, 3)``; ``place`` (0-1) in a pool of noise determines its values."""
    pool, noisy = _noise_pool(), np.empty_like(image)
    bands = -(-2 * image.size // pool.size)
    for part, noisy_part in zip(np.array_split(image, bands), np.array_split(noisy, bands), strict=True):
        first = int(place * (pool.size - part.size))
        noise = pool[first : first + part.size].reshape(part.shape)
        cv2.addWeighted(part, 1, noise, deviation, 0, dst=noisy_part, dtype=cv2.CV_8U)
        place = (place + 0.618) % 1
    return noisy


def blur(image: np.ndarray, deviation: float) -> np.ndarray:
    """Blur ``uint8 (H, W, 3)`` by a Gaussian; a ``deviation`` (pixels) below 0.3 changes nothing."""
    return image if deviation < 0.3 else cv2.GaussianBlur(image, (0, 0), deviation, borderType=cv2.BORDER_REPLICATE)


def compress(image: np.ndarray, quality: int) -> np.ndarray:
    """Compress ``uint8 (H, W, 3)`` RGB by JPEG at ``quality`` (1-100) and decode it again."""
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))  # the channels' order returns as it went in


def darken(image: np.ndarray, strength: float, region: Region, size: tuple[int, int]) -> np.ndarray:
    """Darken ``uint8 (h, w, 3)`` with the squared distance from the whole image's middle, by ``strength`` (0-1)."""
    x, y, width, height = region
    loss = _squared_radius(size)[y : y + height, x : x + width]
    return cv2.subtract(image, cv2.multiply(image, loss, scale=strength / 255))


@lru_cache(maxsize=2)
def _squared_radius(size: tuple[int, int]) -> np.ndarray:
    """Return the squared distance from the middle, 255 in the corners, ``uint8 (H, W, 3)``."""
    x, y = (np.linspace(-1, 1, n, dtype=np.float32) * (n - 1) for n in size)
    square = np.square(x)[None] + np.square(y)[:, None]
    return cv2.merge([np.round(255 / square[0, 0] * square).astype(np.uint8)] * 3)
