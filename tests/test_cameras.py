import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.fisheye.cameras import Fisheye, Pinhole, from_dict

small = st.floats(-0.03, 0.03)
CAMERAS = st.one_of(
    st.builds(lambda fov: Pinhole.from_fov((64, 36), fov), st.floats(0.3, 2.8)),
    st.builds(lambda fov, *k: Fisheye.from_fov((64, 36), fov, k), st.floats(0.3, 2.0), small, small, small, small),
)


@settings(max_examples=60, deadline=None)
@given(CAMERAS)
def test_projecting_a_pixels_ray_returns_the_pixel(camera):
    rays = camera.rays()
    seen = np.isfinite(rays[..., 0])
    x, y = np.meshgrid(np.arange(64), np.arange(36))
    assert seen.mean() > 0.3
    assert np.abs(np.linalg.norm(rays[seen], axis=-1) - 1).max() < 1e-12
    assert np.abs(camera.project(rays * 7.0) - np.stack([x, y], -1))[seen].max() < 1e-6


@settings(max_examples=40, deadline=None)
@given(st.tuples(small, small, small, small))
def test_fisheye_agrees_with_opencv(k):
    camera = Fisheye(640, 480, 200.0, 210.0, 321.0, 235.0, k)
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(-1.5, 1.5, (200, 2)), np.ones((200, 1))], axis=1)
    inside = np.arctan(np.hypot(points[:, 0], points[:, 1])) < camera.max_angle
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    expected, _ = cv2.fisheye.projectPoints(points[:, None], np.zeros(3), np.zeros(3), matrix, np.array(k))
    assert np.abs(camera.project(points) - expected[:, 0])[inside].max() < 1e-6


def test_the_axis_lands_on_the_principal_point():
    for camera in (Pinhole.from_fov((11, 7), 1.0), Fisheye.from_fov((11, 7), 1.0)):
        assert np.allclose(camera.project([0.0, 0.0, 2.0]), (camera.cx, camera.cy))
        assert np.allclose(camera.unproject([camera.cx, camera.cy]), (0, 0, 1))


def test_rays_outside_the_valid_domain_are_nan():
    assert np.isnan(Pinhole.from_fov((10, 10), 1.0).project([0.0, 0.0, -1.0])).all()
    folding = Fisheye(100, 100, 30.0, 30.0, 49.5, 49.5, (-0.2, 0.0, 0.0, 0.0))
    assert folding.max_angle == pytest.approx(np.sqrt(1 / 0.6))
    beyond = folding.max_angle + 0.01
    assert np.isnan(folding.project([np.sin(beyond), 0.0, np.cos(beyond)])).all()
    assert np.isnan(folding.unproject([99.0, 99.0])).all()


def test_field_of_view_is_what_the_width_covers():
    for camera in (Pinhole.from_fov((640, 360), 1.2), Fisheye.from_fov((640, 360), 1.2, (0.01, 0.0, 0.0, 0.0))):
        ray = camera.unproject([639.5, camera.cy])
        assert np.arctan2(ray[0], ray[2]) == pytest.approx(0.6)


def test_scaling_keeps_the_view():
    camera = Fisheye(640, 360, 200.0, 210.0, 300.0, 190.0, (0.01, 0.0, 0.0, 0.0))
    half = camera.scaled((320, 180))
    # The corner between four pixels is at (0.5, 0.5) in the large image and at the pixel (0, 0) of the half one.
    assert np.allclose(half.unproject([0.0, 0.0]), camera.unproject([0.5, 0.5]))


def test_dict_round_trip():
    for camera in (Pinhole.from_fov((64, 36), 1.0), Fisheye.from_fov((64, 36), 1.5, (0.01, -0.02, 0.0, 0.001))):
        assert from_dict(camera.to_dict()) == camera


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "Box"}, "known: Pinhole, Fisheye"),
        ({"model": "Pinhole", "width": 4}, "expected: .*height"),
    ],
)
def test_faulty_dicts_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        from_dict(values)


def test_impossible_fields_of_view_are_refused():
    with pytest.raises(ValueError, match="hfov"):
        Pinhole.from_fov((10, 10), 3.2)
    with pytest.raises(ValueError, match="hfov"):
        Fisheye.from_fov((10, 10), 3.0, (-0.2, 0.0, 0.0, 0.0))
