"""Warp and background, on images whose truth is known."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.camera import remap
from lib.camera.models import ClassicFisheye, DoubleSphere, Fisheye, Pinhole
from lib.dataset import image_files, layout
from lib.dataset.classes import BACKGROUND, IGNORE, ROAD
from lib.errors import InputError
from lib.sample import RIGS, render, source_camera, target_camera
from lib.sample.weather import Weather
from lib.target import overlay


def textured(height, width, seed=0):
    """A smooth random picture, so that a sub-pixel shift changes little."""
    noise = np.random.default_rng(seed).uniform(0, 255, (height // 8, width // 8, 3)).astype(np.float32)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def test_warping_into_the_same_camera_changes_nothing():
    camera = Pinhole.from_fov((64, 48), 1.0)
    image = textured(48, 64)
    label = np.random.default_rng(0).integers(0, 12, (48, 64)).astype(np.uint8)
    table = remap.build_table(camera, camera)
    assert remap.covered(table).all()
    assert np.abs(remap.remap_image(image, table).astype(int) - image).max() <= 1
    assert (remap.remap_label(label, table) == label).all()


def test_a_pixel_goes_where_its_ray_says():
    source, target = Pinhole.from_fov((201, 101), 1.2), Fisheye.from_fov((121, 81), 1.2, (0.02, 0.0, 0.0, 0.0))
    turn = remap.rotation(yaw=0.1, pitch=-0.05, roll=0.2)
    table = remap.build_table(target, source, turn)
    x, y = 70, 33
    assert np.allclose(table[y, x], source.project(turn @ target.unproject([x, y])), atol=0.05)
    label = np.zeros((101, 201), dtype=np.uint8)
    column, row = table[y, x].round().astype(int)
    label[row, column] = ROAD + 1
    assert remap.remap_label(label, table)[y, x] == ROAD + 1


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
    table = remap.build_table(wide, narrow)
    unseen = ~remap.covered(table)
    assert 0.3 < unseen.mean() < 1
    assert (remap.remap_label(np.full((48, 64), ROAD, np.uint8), table)[unseen] == IGNORE).all()
    assert (remap.remap_image(np.full((48, 64, 3), 200, np.uint8), table)[unseen] == 0).all()


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
    table = remap.build_table(target, source)
    inner = cv2.erode(remap.covered(table).astype(np.uint8), np.ones((5, 5))) > 0
    assert np.abs(remap.remap_image(stripes, table)[inner].astype(int) - 85).max() < 25  # without care: 0 to 255


def test_levels_meet_without_a_step():
    """Where the table shrinks by very different factors, a smooth picture stays smooth and in its place."""
    source, target = Pinhole.from_fov((1200, 600), 2.5), Fisheye.from_fov((200, 100), 2.5)
    x = np.tile(np.linspace(0, 255, 1200), (600, 1)).astype(np.float32)
    image = np.repeat(x[..., None], 3, axis=2).round().astype(np.uint8)
    table = remap.build_table(target, source)
    seen = remap.covered(table)
    expected = np.interp(table[..., 0], np.arange(1200), x[0])
    assert len(remap.remap_from_table(table, (1200, 600)).layout.places) > 1
    assert np.abs(remap.remap_image(image, table)[..., 0] - expected)[seen].max() < 2


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
        warped = remap.remap_label(label, table)
        for thin in remap.THIN:
            share = (samples == thin).reshape(135, 4, 240, 4).mean(axis=(1, 3))
            kept += share[warped == thin].sum()
            plainly += share[plain == thin].sum()
            best += share[share >= 0.25].sum()
    assert kept > 0.97 * best and kept > 1.05 * plainly


@pytest.fixture
def frames(tmp_path):
    """24 frames of changing content behind a static frame of known shape."""
    truth = np.zeros((90, 160), dtype=bool)
    truth[:, :12] = truth[:, -12:] = truth[72:] = True
    still = textured(90, 160, seed=99) // 3
    paths = []
    for i in range(24):
        rng = np.random.default_rng(i)
        image = np.where(truth[..., None], still, textured(90, 160, seed=i)).astype(float)
        path = tmp_path / f"{i}.png"
        image_files.write_png(path, (image + rng.normal(0, 2, image.shape)).clip(0, 255).astype(np.uint8))
        paths.append(path)
    return paths, truth, still


def test_background_finds_what_stays_still(frames):
    paths, truth, still = frames
    found = overlay.estimate_overlay(paths)
    assert (found.mask & truth).sum() / (found.mask | truth).sum() > 0.95
    inside = found.mask & truth
    assert np.abs(found.image[inside].astype(int) - still[inside]).mean() < 2


def test_background_is_empty_where_everything_moves(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(12)]
    for i, path in enumerate(paths):
        image_files.write_png(path, textured(90, 160, seed=i))
    assert not overlay.estimate_overlay(paths).mask.any()


def test_pasting_labels_the_background_and_leaves_the_rest(frames):
    paths, _, _ = frames
    found = overlay.estimate_overlay(paths)
    image, label = textured(90, 160, seed=7), np.full((90, 160), ROAD, np.uint8)
    pasted, labelled = found.paste(image, label)
    assert (labelled[found.mask] == BACKGROUND).all() and (labelled[~found.mask] == ROAD).all()
    near, deep = (cv2.dilate(m.astype(np.uint8), np.ones((5, 5))) > 0 for m in (found.mask, ~found.mask))
    assert (pasted[~near] == image[~near]).all() and (pasted[~deep] == found.image[~deep]).all()
    assert (label == ROAD).all(), "the input is not changed"


def test_the_pasted_edge_is_soft_and_the_labels_hard():
    mask = np.zeros((20, 30), dtype=bool)
    mask[12:] = True
    plate = np.where(mask[..., None], 200, 90).astype(np.uint8).repeat(3, axis=2)
    found = overlay.Overlay(mask, plate, np.zeros(mask.shape, np.float32))
    pasted, label = found.paste(np.zeros((20, 30, 3), np.uint8), np.full((20, 30), ROAD, np.uint8))
    column = pasted[:, 15, 0].astype(int)
    assert (np.diff(column[8:16]) >= 0).all() and column[9] == 0 and column[14] == 200
    assert 10 < column[11] < 100 < column[12] < 190, "two pixels on either side are mixed"
    assert set(np.unique(label)) == {ROAD, BACKGROUND}


def test_surroundings_can_vary_as_they_do_in_the_frames(frames):
    found = overlay.estimate_overlay(frames[0])
    image, label = np.zeros((90, 160, 3), np.uint8), np.zeros((90, 160), np.uint8)
    assert found.noise == pytest.approx(2, abs=0.4) and all(0.9 < gain < 1.1 for gain in found.gains)
    varied = [found.paste(image, label, np.random.default_rng(seed))[0] for seed in (1, 1, 2)]
    assert (varied[0] == varied[1]).all() and (varied[0] != varied[2]).any()
    deep = cv2.erode(found.mask.astype(np.uint8), np.ones((7, 7))) > 0
    assert 1 < (varied[0][deep].astype(float) - found.image[deep]).std() < 4


def test_background_names_frames_it_cannot_use(frames, tmp_path):
    paths, _, _ = frames
    with pytest.raises(InputError, match="at least 2"):
        overlay.estimate_overlay(paths[:1])
    other = tmp_path / "other.png"
    image_files.write_png(other, textured(80, 160))
    with pytest.raises(InputError, match=r"other\.png: 160x80 px, but .* has 160x90"):
        overlay.estimate_overlay([*paths, other])


def overlap(found, truth):
    return (found & truth).sum() / (found | truth).sum()


@pytest.mark.parametrize("kind", ["16-bit", "grey", "RGBA"])
def test_background_takes_frames_of_any_pixel_format(frames, kind):
    paths, truth, _ = frames
    for path in paths:
        image = cv2.imread(str(path))
        other = {
            "16-bit": lambda x: x.astype(np.uint16) * 257,
            "grey": lambda x: cv2.cvtColor(x, cv2.COLOR_BGR2GRAY),
            "RGBA": lambda x: cv2.cvtColor(x, cv2.COLOR_BGR2BGRA),
        }[kind](image)
        cv2.imwrite(str(path), other)
    assert overlap(overlay.estimate_overlay(paths).mask, truth) > 0.95


def test_frames_that_show_nothing_are_left_out(frames, tmp_path):
    paths, truth, _ = frames
    black = tmp_path / "black.png"
    image_files.write_png(black, np.zeros((90, 160, 3), np.uint8))
    assert overlap(overlay.estimate_overlay([black, *paths, black]).mask, truth) > 0.95
    with pytest.raises(InputError, match="1 of 3 target frames show anything"):
        overlay.estimate_overlay([black, paths[0], black])


def test_frames_that_are_all_the_same_have_no_background(frames):
    assert not overlay.estimate_overlay([frames[0][0]] * 6).mask.any()


OTHERS = ("small circle", "high hood")


def seen_by(name, size, count, folder):
    """Paths of frames that a rig of the sample took, and the truth."""
    rig, paths = RIGS[name], [folder / f"{i}.png" for i in range(count)]
    for i, path in enumerate(paths):
        image_files.write_png(path, render((5, i), rig.camera(size), rig.sensor, rig.overlay)[0])
    return paths, rig.overlay.mask(size)


@pytest.mark.parametrize("name", OTHERS)
def test_background_of_other_cameras_from_few_frames(name, tmp_path):
    paths, truth = seen_by(name, (240, 136), 16, tmp_path)
    assert overlap(overlay.estimate_overlay(paths).mask, truth) > 0.95


@pytest.mark.parametrize("name", OTHERS)
def test_a_sky_that_never_changes_is_no_background(name, tmp_path, monkeypatch):
    monkeypatch.setattr(Weather, "sky", lambda self, rays: np.full((rays.shape[1], 3), 0.6, np.float32))
    paths, truth = seen_by(name, (240, 136), 12, tmp_path)
    assert overlap(overlay.estimate_overlay(paths).mask, truth) > 0.93


def test_reflections_on_the_hood_are_background(tmp_path):
    paths, truth = seen_by("high hood", (240, 136), 12, tmp_path)
    rng, x = np.random.default_rng(0), np.arange(240)
    for path in paths:
        image = image_files.read_image(path).astype(float)
        image[truth] = (image * rng.uniform(0.92, 1.08) + 4 * np.sin(x / 20 + rng.uniform(0, 6))[:, None])[truth]
        image_files.write_png(path, image.clip(0, 255).round().astype(np.uint8))
    assert overlap(overlay.estimate_overlay(paths).mask, truth) > 0.95


def test_background_of_the_sample(sample):
    found = overlay.estimate_overlay([item.image for item in layout.read_split(sample, "train_target")])
    truth = image_files.read_label(sample / "withheld" / "overlay_mask.png") > 0
    assert overlap(found.mask, truth) > 0.93  # eight small frames
