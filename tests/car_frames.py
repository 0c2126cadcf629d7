"""Frames of two cars with different overlays."""

import cv2
import numpy as np

from lib.dataset import image_files

SIZE = (160, 90)


def car_overlay(number):
    """Mask and image of a car's overlay: a low hood between dark sides, or a high hood."""
    mask = np.zeros(SIZE[::-1], bool)
    mask[70 - 12 * number :] = True
    if number == 0:
        mask[:, :14] = mask[:, -14:] = True
    return mask, _texture(90 + number, 16) * (0.5, 0.9)[number]


def car_frames(number, count, folder, first=0, light=1.0, scene=None):
    """Paths of ``count`` frames that a car took; ``scene`` None: each of another street."""
    mask, still = car_overlay(number)
    paths = []
    for i in range(first, first + count):
        rng = np.random.default_rng([number, i])
        street = _texture(1000 * number + i if scene is None else scene)
        image = np.where(mask[..., None], still, street) * light + rng.normal(0, 2, (*mask.shape, 3))
        paths.append(folder / f"{number}_{light}_{scene}_{i}.png")
        image_files.write_png(paths[-1], image.clip(0, 255).round().astype(np.uint8))
    return paths


def _texture(seed, cell=8):
    noise = np.random.default_rng(seed).uniform(20, 235, (90 // cell + 1, 160 // cell, 3)).astype(np.float32)
    return cv2.resize(noise, SIZE, interpolation=cv2.INTER_CUBIC).clip(0, 255)
