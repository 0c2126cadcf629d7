"""Mirror images beyond the source: where they lie, that they meet, and what stays unlabelled."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest

from lib.camera import mirror, remap
from lib.camera.models import Fisheye, Pinhole
from lib.dataset.classes import IGNORE

SIZE = (320, 200)


def open_view(size=SIZE):
    return np.zeros(size[::-1], bool)


def folded(target, source, turn, shift):
    """Source pixels ``(H, W, 2)`` by folding every ray, for a centred source; NaN where nothing is mirrored to.

    And ``bool (H, W)``, all but the pixels on the outermost edge, of which rounding decides.
    """
    pixels = np.stack(np.meshgrid(np.arange(target.width), np.arange(target.height)), axis=-1)
    x, y, z = np.moveaxis(remap.rays(target, pixels, turn, shift), -1, 0)
    side, top = np.arctan(source.width / 2 / source.fx), np.arctan(source.height / 2 / source.fy)
    yaw = side - np.abs((np.arctan2(x, z) + side) % (4 * side) - 2 * side)
    x, z = np.hypot(x, z) * np.sin(yaw), np.hypot(x, z) * np.cos(yaw)
    pitch, away = np.arctan2(y, z), np.hypot(y, z)
    inside = np.minimum(pitch + top * (1 + mirror.ABOVE), top * (1 + mirror.BELOW) - pitch)
    pitch = np.where(np.abs(pitch) > top, np.sign(pitch) * 2 * top - pitch, pitch)
    found = source.project(np.stack([x, away * np.sin(pitch), away * np.cos(pitch)], axis=-1))
    return np.where(inside[..., None] > 0, found, np.nan), np.abs(inside) > 1e-3


@pytest.mark.parametrize("view", [2.8, 4.4])
@pytest.mark.parametrize(
    ("source", "turn", "shift"),
    [
        (Pinhole.from_fov((160, 96), 1.2), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        (Pinhole.from_fov((161, 97), 0.9), (0.05, -0.04, 0.05), (0.05, -0.05, 0.1)),
        (Pinhole.from_fov((160, 96), 2.2), (0.0, 0.05, 0.02), (0.0, 0.0, 0.0)),
    ],
)
def test_copies_tile_and_agree_with_folding_each_ray(view, source, turn, shift):
    target, turn = Fisheye.from_fov(SIZE, view), remap.rotation(*turn)
    made = mirror.cached_mirror_remap(target, source, turn, None, shift, mirror.cells(open_view()))
    wanted, sure = folded(target, source, turn, shift)
    owners = np.zeros(SIZE[::-1], int)
    for box, _, mask in made.copies:
        owners[box] += mask
    seen = np.isfinite(wanted[..., 0])
    assert owners.max() == 1 and (owners == seen)[sure].all()
    off = np.abs(np.stack([made.x, made.y], axis=-1) - wanted)[seen & sure]
    assert off.max() < 0.15 and np.percentile(off, 99) < 0.03


def test_a_given_camera_off_its_centre_is_mirrored_at_its_own_sides():
    source = replace(Pinhole.from_fov((160, 96), 1.2), cx=60.0, cy=52.0)
    sides = mirror.Sides.of(source)
    assert -sides.left < sides.right and -sides.top > sides.bottom
    for across, down in ((1, 0), (-1, 0), (2, 0), (0, -1), (0, 1), (1, -1)):
        matrix = sides.reflection(across, down)
        assert np.allclose(matrix @ matrix.T, np.eye(3))
    right = [np.sin(sides.right), 0.1, np.cos(sides.right)]
    assert np.allclose(sides.reflection(1, 0) @ right, right), "what lies in the plane stays"
    above = [0.1, np.sin(sides.top), np.cos(sides.top)]
    assert np.allclose(sides.reflection(0, -1) @ above, above)
    made = mirror.cached_mirror_remap(
        Fisheye.from_fov(SIZE, 2.8), source, np.eye(3), None, (0.0, 0.0, 0.0), mirror.cells(open_view())
    )
    assert len(made.copies) >= 9 and made.image(np.full((96, 160, 3), 7, np.uint8))[100].min() == 7


def test_nothing_is_built_behind_the_overlay():
    target, source = Fisheye.from_fov(SIZE, 2.8), Pinhole.from_fov((160, 96), 1.2)
    hidden = open_view()
    hidden[:, 100:] = True
    whole, part = (
        mirror.cached_mirror_remap(target, source, np.eye(3), None, (0.0, 0.0, 0.0), mirror.cells(mask))
        for mask in (open_view(), hidden)
    )
    assert len(part.copies) < len(whole.copies)
    label = np.arange(96 * 160).reshape(96, 160).astype(np.uint8) % 12
    differ = part.label(label) != whole.label(label)
    assert not differ[:, :102].mean() > 0.001 and (part.label(label)[:, 150:] == IGNORE).all()


def test_maps_are_freed_without_a_collection_of_cycles():
    camera = Pinhole.from_fov((96, 54), 1.2)
    mirror._cached.cache_clear()
    seen = mirror.cells(np.zeros((54, 96), bool))
    table = mirror.cached_mirror_remap(Fisheye.from_fov((96, 54), 2.4), camera, np.eye(3), None, (0.0, 0.0, 0.0), seen)
    copies = [weakref.ref(copy) for _, copy, _ in table.copies]
    assert len(copies) > 1 and len({id(copy().pyramid) for copy in copies}) == 1
    gc.disable()
    try:
        del table
        mirror._cached.cache_clear()
        assert not any(copy() for copy in copies)
    finally:
        gc.enable()
