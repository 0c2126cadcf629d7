"""Camera models: round trips, agreement with OpenCV and with the formulas, valid domains, files."""

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lib.camera.models import ClassicFisheye, DoubleSphere, Fisheye, Pinhole, RadialPolynomial, from_dict
from lib.camera.yaml_files import from_yaml
from lib.errors import InputError
from lib.files import write_yaml

SIZE = (64, 36)
small = st.floats(-0.03, 0.03)
PIXELS = (339.0, -32.0, 48.0, -7.0)  # of a surround-view lens, a1 to a4
CAMERAS = st.one_of(
    st.builds(lambda fov: Pinhole.from_fov(SIZE, fov), st.floats(0.3, 2.8)),
    st.builds(lambda fov, *k: Fisheye.from_fov(SIZE, fov, k), st.floats(0.3, 2.0), small, small, small, small),
    st.builds(
        lambda fov, kind: ClassicFisheye.from_fov(SIZE, fov, kind),
        st.floats(0.3, 3.1),
        st.sampled_from(ClassicFisheye.KINDS),
    ),
    st.builds(
        lambda fov, kind: ClassicFisheye.from_fov(SIZE, fov, kind),
        st.floats(3.2, 5.5),
        st.sampled_from(ClassicFisheye.KINDS[:3]),
    ),
    st.builds(
        lambda aspect, *a: RadialPolynomial(
            *SIZE, 0.1, 0.1 * aspect, 31.0, 18.5, tuple(x + d for x, d in zip(PIXELS, a, strict=True))
        ),
        st.floats(0.8, 1.25),
        *[st.floats(-3, 3)] * 4,
    ),
    st.builds(
        lambda part, xi, alpha: _wide(part, xi, alpha), st.floats(0.1, 0.95), st.floats(-0.5, 2.5), st.floats(0, 0.9)
    ),
)


def _wide(part, xi, alpha):
    """A double sphere that fills the width with ``part`` of what it can see."""
    reach = DoubleSphere(*SIZE, 1.0, 1.0, 0.0, 0.0, xi, alpha).max_angle
    return DoubleSphere.from_fov(SIZE, 2 * part * reach, xi, alpha)


@settings(max_examples=200, deadline=None)
@given(CAMERAS)
@example(_wide(0.5, -0.5, 0.34375))  # of these, rounding once gave the rim a negative or too small a radius
@example(_wide(0.5, 0.25, 0.5))
@example(_wide(0.5, 1.0, 0.03125))
def test_projecting_a_pixels_ray_returns_the_pixel(camera):
    rays = camera.rays()
    seen = np.isfinite(rays).all(axis=-1)
    x, y = np.meshgrid(np.arange(64), np.arange(36))
    assert seen.mean() > 0.3
    assert np.abs(np.linalg.norm(rays[seen], axis=-1) - 1).max() < 1e-12
    assert np.abs(camera.project(rays * 7.0) - np.stack([x, y], -1))[seen].max() < 1e-6


@settings(max_examples=200, deadline=None)
@given(CAMERAS, st.floats(0.001, 0.999), st.floats(-3.1, 3.1))
def test_unprojecting_a_rays_pixel_returns_the_ray(camera, part, direction):
    theta = part * camera.max_angle
    ray = np.array([np.cos(direction) * np.sin(theta), np.sin(direction) * np.sin(theta), np.cos(theta)])
    pixel = camera.project(ray)
    assert np.isfinite(pixel).all()
    # Where the radius hardly grows with the angle any more, pixels tell angles less well than rays tell pixels.
    assert np.abs(camera.project(camera.unproject(pixel)) - pixel).max() < 1e-6 * max(1.0, np.abs(pixel).max() / 1e4)


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


@pytest.mark.skipif(not hasattr(cv2, "omnidir"), reason="cv2.omnidir is in opencv-contrib-python only")
@pytest.mark.parametrize("xi", [0.3, 0.9, 1.4])
def test_the_unified_model_agrees_with_opencv(xi):
    camera = DoubleSphere(640, 480, 200.0, 210.0, 321.0, 235.0, xi)
    points = np.random.default_rng(0).uniform(-1, 1, (200, 3))
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    expected, _ = cv2.omnidir.projectPoints(points[:, None], np.zeros(3), np.zeros(3), matrix, xi, np.zeros(4))
    found = camera.project(points)
    inside = np.isfinite(found[:, 0])
    assert inside.sum() > 100 and np.abs(found - expected[:, 0])[inside].max() < 1e-6


@pytest.mark.parametrize("xi", [-0.3, 0.0, 0.6, 1.0, 1.8])
@pytest.mark.parametrize("alpha", [0.0, 0.4, 0.5, 0.7])
def test_the_double_sphere_is_its_construction_in_space(xi, alpha):
    """Onto the unit sphere, again onto one shifted by xi, then through a pinhole shifted once more."""
    camera = DoubleSphere(640, 480, 200.0, 210.0, 321.0, 235.0, xi, alpha)
    points = np.random.default_rng(0).normal(size=(2000, 3))
    first = points / np.linalg.norm(points, axis=1, keepdims=True) + (0, 0, xi)
    second = first / np.linalg.norm(first, axis=1, keepdims=True) + (0, 0, alpha / (1 - alpha))
    expected = second[:, :2] / second[:, 2:] * (200.0, 210.0) + (321.0, 235.0)
    # alpha weighs the two centres; the construction above has the focal length (1 - alpha) and |first| in it.
    expected = (expected - (321.0, 235.0)) / (1 - alpha) + (321.0, 235.0)
    found = camera.project(points)
    inside = np.isfinite(found[:, 0])
    assert (inside == (np.arccos(points[:, 2] / np.linalg.norm(points, axis=1)) <= camera.max_angle)).all()
    close = inside & (np.abs(expected).max(axis=1) < 1e5)
    assert np.allclose(found[close], expected[close], rtol=1e-9)


def test_the_classic_projections_are_what_their_names_say():
    theta = np.linspace(0.1, 1.5, 8)
    rays = np.stack([np.sin(theta), np.zeros_like(theta), np.cos(theta)], axis=-1)
    sphere = {  # all four seen geometrically, on a unit sphere
        "equidistant": theta,  # length of the arc
        "equisolid": np.linalg.norm(rays - (0, 0, 1), axis=-1),  # chord from the pole: r^2 pi is the cap's area
        "stereographic": 2 * rays[:, 0] / (1 + rays[:, 2]),  # from the opposite pole on the tangent plane
        "orthographic": rays[:, 0],
    }
    for kind, radius in sphere.items():
        camera = ClassicFisheye(100, 100, 10.0, 20.0, 5.0, 6.0, kind)
        assert np.allclose(camera.project(rays), np.stack([5 + 10 * radius, np.full(8, 6.0)], axis=-1))


def test_polynomial_radii_are_pixels():
    camera = RadialPolynomial(1280, 966, 1.0, 1.01, 640.0, 480.0, PIXELS)
    theta = 1.2
    radius = 339 * theta - 32 * theta**2 + 48 * theta**3 - 7 * theta**4
    assert np.allclose(camera.project([np.sin(theta), 0, np.cos(theta)]), (640 + radius, 480))
    assert np.allclose(camera.project([0, np.sin(theta), np.cos(theta)]), (640, 480 + 1.01 * radius))


def test_the_axis_lands_on_the_principal_point():
    for camera in (
        Pinhole.from_fov((11, 7), 1.0),
        Fisheye.from_fov((11, 7), 1.0),
        DoubleSphere.from_fov((11, 7), 3, 1),
    ):
        assert np.allclose(camera.project([0.0, 0.0, 2.0]), (camera.cx, camera.cy))
        assert np.allclose(camera.unproject([camera.cx, camera.cy]), (0, 0, 1))
        assert np.isnan(camera.project([0.0, 0.0, -1.0])).all()


def test_rays_outside_the_valid_domain_are_nan():
    assert np.isnan(Pinhole.from_fov((10, 10), 1.0).project([1.0, 0.0, 0.0])).all()
    folding = Fisheye(100, 100, 30.0, 30.0, 49.5, 49.5, (-0.2, 0.0, 0.0, 0.0))
    assert folding.max_angle == pytest.approx(np.sqrt(1 / 0.6))
    beyond = folding.max_angle + 0.01
    assert np.isnan(folding.project([np.sin(beyond), 0.0, np.cos(beyond)])).all()
    assert np.isnan(folding.unproject([99.0, 99.0])).all()
    valid = np.isfinite(folding.rays()).all(axis=-1)
    assert not valid[99, 99] and valid[50, 50]
    assert DoubleSphere(10, 10, 1.0, 1.0, 0.0, 0.0, 0.5).max_angle == pytest.approx(np.pi / 2 + np.arcsin(0.5))


def test_field_of_view_is_what_the_width_covers():
    for camera in (Pinhole.from_fov((640, 360), 1.2), Fisheye.from_fov((640, 360), 1.2, (0.01, 0.0, 0.0, 0.0))):
        ray = camera.unproject([639.5, camera.cy])
        assert np.arctan2(ray[0], ray[2]) == pytest.approx(0.6)


def test_scaling_keeps_the_view():
    for camera in (
        Fisheye(640, 360, 200.0, 210.0, 300.0, 190.0, (0.01, 0.0, 0.0, 0.0)),
        RadialPolynomial(640, 360, 0.5, 0.51, 300.0, 190.0, PIXELS),
    ):
        half = camera.scaled((320, 180))
        # The corner between four pixels is at (0.5, 0.5) in the large image and at the pixel (0, 0) of the half one.
        assert np.allclose(half.unproject([0.0, 0.0]), camera.unproject([0.5, 0.5]))


@settings(max_examples=30, deadline=None)
@given(CAMERAS)
def test_dict_round_trip(camera):
    assert from_dict(camera.to_dict()) == camera


def test_yaml_round_trip(tmp_path):
    camera = RadialPolynomial(640, 360, 0.5, 0.51, 300.0, 190.0, PIXELS)
    write_yaml(tmp_path / "camera.yaml", camera.to_dict())
    assert from_yaml(tmp_path / "camera.yaml") == camera


@pytest.mark.parametrize("text", [None, "", "[1, 2]", "{", "model: Box", "model: Pinhole\nwidth: 4"])
def test_faulty_files_are_named(tmp_path, text):
    path = tmp_path / "camera.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=r"camera\.yaml: .*expected"):
        from_yaml(path)


GOOD = {"model": "Pinhole", "width": 4, "height": 3, "fx": 2.0, "fy": 2.0, "cx": 1.5, "cy": 1.0}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "Box"}, "known: Pinhole, Fisheye"),
        ({"model": "Pinhole", "width": 4}, "expected: .*height"),
        (GOOD | {"width": 4.5}, "width is 4.5 .*whole number"),
        (GOOD | {"fx": 0}, "fx is 0 .*above 0"),
        (GOOD | {"cx": "left"}, "cx is 'left' .*a number"),
        (GOOD | {"model": "Fisheye", "k": [0.1]}, r"k is .*four numbers"),
        (GOOD | {"model": "RadialPolynomial", "a": [-1, 0, 0, 0]}, "a1 is -1"),
        (GOOD | {"model": "ClassicFisheye", "kind": "round"}, "kind is 'round' .*equisolid"),
        (GOOD | {"model": "DoubleSphere", "xi": 0.5, "alpha": 1.5}, "alpha is 1.5"),
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
