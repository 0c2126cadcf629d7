"""Remapping between cameras whose geometry is known."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.camera import remap
from lib.camera.models import ClassicFisheye, DoubleSphere, Fisheye, Pinhole
from lib.camera.pyramid import THIN
from lib.dataset.classes import IGNORE, ROAD
from lib.sample import render, source_camera, target_camera


def textured(height, width, seed=0):
    """A smooth random picture, so that a sub-pixel shift changes little."""
    noise = np.random.default_rng(seed).uniform(0, 255, (height // 8, width // 8, 3)).astype(np.float32)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def test_remapping_into_the_same_camera_changes_nothing():
    camera = Pinhole.from_fov((64, 48), 1.0)
    image = textured(48, 64)
    label = np.random.default_rng(0).integers(0, 12, (48, 64)).astype(np.uint8)
    same = remap.build_remap(camera, camera)
    assert same.covered.all()
    assert np.abs(same.image(image).astype(int) - image).max() <= 1
    assert (same.label(label) == label).all()


def test_a_pixel_goes_where_its_ray_says():
    source, target = Pinhole.from_fov((201, 101), 1.2), Fisheye.from_fov((121, 81), 1.2, (0.02, 0.0, 0.0, 0.0))
    turn = remap.rotation(yaw=0.1, pitch=-0.05, roll=0.2)
    table = remap.build_table(target, source, turn)
    x, y = 70, 33
    assert np.allclose(table[y, x], source.project(turn @ target.unproject([x, y])), atol=0.05)
    label = np.zeros((101, 201), dtype=np.uint8)
    column, row = table[y, x].round().astype(int)
    label[row, column] = ROAD + 1
    assert remap.build_remap(target, source, turn).label(label)[y, x] == ROAD + 1


def test_turning_moves_the_view_the_right_way():
    camera = Pinhole.from_fov((101, 101), 1.0)
    centre = (50, 50)
    right = remap.build_table(camera, camera, remap.rotation(yaw=0.1))[centre]
    up = remap.build_table(camera, camera, remap.rotation(pitch=0.1))[centre]
    assert right[0] > 50 and right[1] == pytest.approx(50, abs=1e-3)
    assert up[1] < 50 and up[0] == pytest.approx(50, abs=1e-3)
    # Turned clockwise, what was to the right of the centre appears above the right.
    assert remap.build_table(camera, camera, remap.rotation(roll=0.1))[50, 80][1] > 50


def test_what_the_source_does_not_see_is_ignored_and_black():
    narrow, wide = Pinhole.from_fov((64, 48), 0.8), Fisheye.from_fov((64, 48), 2.5)
    ready = remap.build_remap(wide, narrow)
    unseen = ~ready.covered
    assert 0.3 < unseen.mean() < 1
    assert (ready.label(np.full((48, 64), ROAD, np.uint8))[unseen] == IGNORE).all()
    assert (ready.image(np.full((48, 64, 3), 200, np.uint8))[unseen] == 0).all()


ANGLE = st.floats(-0.3, 0.3)
WIDE = st.one_of(
    st.builds(lambda fov: Fisheye.from_fov((240, 130), fov, (-0.03, 0.004, 0, 0)), st.floats(0.8, 3.3)),
    st.builds(lambda fov, xi: DoubleSphere.from_fov((240, 130), fov, xi, 0.3), st.floats(0.8, 3), st.floats(0, 0.9)),
    st.builds(lambda fov: ClassicFisheye.from_fov((240, 130), fov, "orthographic"), st.floats(0.8, 2.9)),
)


@settings(max_examples=60, deadline=None)
@given(WIDE, st.floats(0.5, 2.6), ANGLE, ANGLE, ANGLE)
def test_tables_from_a_coarse_grid_are_right_to_a_twentieth_of_a_pixel(target, fov, yaw, pitch, roll):
    source, turn = Pinhole.from_fov((500, 260), fov), remap.rotation(yaw, pitch, roll)
    for one, other in ((target, source), (source, target)):
        table = remap.build_table(one, other, turn)
        exact = other.project(one.rays() @ turn.T)
        with np.errstate(invalid="ignore"):
            margin = (
                np.abs(exact - ((other.width - 1) / 2, (other.height - 1) / 2)) - (other.width / 2, other.height / 2)
            ).max(axis=-1)
        seen = remap.covered(table)
        assert not seen[~(margin <= 0.05)].any() and seen[margin <= -0.05].all()
        assert not seen.any() or np.abs(table - exact)[seen].max() < 0.05


def test_beyond_a_pinholes_horizon_nothing_is_seen():
    """Where rays turn sideways a pinhole's pixels run to infinity, and nothing between them is in the image."""
    source, target = source_camera((2048, 1024)), target_camera((1920, 1080))
    turn = remap.rotation(0.03, 0.02, -0.04)
    table = remap.build_table(target, source, turn)
    rays = target.rays()[remap.covered(table)] @ turn.T
    assert np.degrees(np.arctan2(np.hypot(rays[:, 0], rays[:, 1]), rays[:, 2])).max() < 45


def test_a_region_of_a_table_is_the_same_as_in_the_whole():
    source, target = Pinhole.from_fov((512, 256), 1.6), Fisheye.from_fov((300, 200), 2.0)
    whole = remap.build_table(target, source)
    part = remap.build_table(target, source, region=(37, 11, 120, 90))
    assert np.nanmax(np.abs(part - whole[11:101, 37:157])) < 0.05


def test_ready_tables_are_kept_and_bound_to_their_size():
    source, target = Pinhole.from_fov((64, 32), 1.6), Fisheye.from_fov((40, 30), 2.0)
    ready = remap.cached_remap(target, source, remap.rotation(0.1))
    assert remap.cached_remap(target, source, remap.rotation(0.1)) is ready
    assert remap.cached_remap(target, source, remap.rotation(0.2)) is not ready
    with pytest.raises(ValueError, match="32x64 px .*expected: 64x32"):
        ready.image(np.zeros((64, 32, 3), np.uint8))


def test_shrinking_fine_stripes_gives_grey_not_moire():
    source, target = Pinhole.from_fov((1600, 800), 1.2), Fisheye.from_fov((160, 80), 1.2)
    stripes = np.zeros((800, 1600, 3), np.uint8)
    stripes[:, ::3] = 255
    ready = remap.build_remap(target, source)
    inner = cv2.erode(ready.covered.astype(np.uint8), np.ones((5, 5))) > 0
    assert np.abs(ready.image(stripes)[inner].astype(int) - 85).max() < 25  # without care: 0 to 255


def test_levels_meet_without_a_step():
    """Where the table shrinks by very different factors, a smooth picture stays smooth and in its place."""
    source, target = Pinhole.from_fov((1200, 600), 2.5), Fisheye.from_fov((200, 100), 2.5)
    x = np.tile(np.linspace(0, 255, 1200), (600, 1)).astype(np.float32)
    image = np.repeat(x[..., None], 3, axis=2).round().astype(np.uint8)
    ready = remap.build_remap(target, source)
    seen = ready.covered
    expected = np.interp(ready.x, np.arange(1200), x[0])
    assert len(ready.pyramid.levels) > 1
    assert np.abs(ready.image(image)[..., 0] - expected)[seen].max() < 2


def test_shrunken_labels_keep_their_thin_classes():
    """As much of the area of poles, lights and signs as a label counted on four times finer a grid."""
    source, target = source_camera((1024, 512)), target_camera((240, 135))
    table, fine = remap.build_table(target, source), remap.build_table(target.scaled((960, 540)), source)
    kept = plainly = best = 0
    for seed in range(4):
        label = render((2, seed), source)[1]
        samples, plain = (
            cv2.remap(label, np.nan_to_num(t, nan=-9), None, cv2.INTER_NEAREST, borderValue=IGNORE)
            for t in (fine, table)
        )
        remapped = remap.build_remap(target, source).label(label)
        for thin in THIN:
            share = (samples == thin).reshape(135, 4, 240, 4).mean(axis=(1, 3))
            kept += share[remapped == thin].sum()
            plainly += share[plain == thin].sum()
            best += share[share >= 0.25].sum()
    assert kept > 0.97 * best and kept > 1.05 * plainly
