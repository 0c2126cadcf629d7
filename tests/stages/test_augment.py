"""Bending source images: geometry, the target's look, rare classes, and bending while training."""

import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from lib.camera import remap
from lib.camera.models import Fisheye, Pinhole
from lib.dataset import image_files, layout
from lib.dataset.classes import BACKGROUND, IGNORE
from lib.dataset.rare_classes import rare_class_weights
from lib.errors import InputError
from lib.files import read_yaml
from lib.stages.augment import AugmentOptions, augment
from lib.synthesis import estimate
from lib.synthesis import params as params_module
from lib.synthesis.params import AugmentParams
from lib.synthesis.target_camera import TargetCamera
from lib.target import appearance
from lib.target.overlay import Overlay


@pytest.fixture(scope="module")
def known(sample, tmp_path_factory):
    """A folder in which the target is known and training images are bent while training."""
    out = tmp_path_factory.mktemp("known")
    return augment(AugmentOptions(data=sample, out=out, copies=0))


@pytest.fixture(scope="module")
def target(known):
    return TargetCamera.read(known)


def picture(size=(200, 120)):
    """An image whose red and green tell the place, and a label cut from it."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    image = np.stack([x, y * 2, np.full_like(x, 128)], axis=-1).clip(0, 255).astype(np.uint8)
    return image, (image[..., 0] // 20).astype(np.uint8)


def bare(size=(160, 90), appearance="none"):
    """A target without surroundings."""
    nothing = Overlay(
        np.zeros(size[::-1], bool), np.zeros((*size[::-1], 3), np.uint8), np.zeros(size[::-1], np.float32)
    )
    looks = np.array([[[128, 128, 128], [30, 10, 10]]], np.float32), np.full((1, 72, 128, 3), 90, np.uint8)
    return TargetCamera(nothing, Fisheye.from_fov(size, 2.0), None, *looks, appearance)


def test_a_target_is_read_as_it_was_written(target, tmp_path):
    target.write(tmp_path)
    again = TargetCamera.read(tmp_path)
    assert (again.lens, again.source, again.appearance) == (target.lens, target.source, target.appearance)
    replace(target, motion=False, source_fov=(0.4, 0.8), mirror=False).write(tmp_path)
    other = TargetCamera.read(tmp_path)
    assert (again.motion, again.source_fov, again.mirror) == (True, target.source_fov, True)
    assert (other.motion, other.source_fov, other.mirror) == (False, (0.4, 0.8), False)
    assert (again.overlay.mask == target.overlay.mask).all() and again.overlay.gains == target.overlay.gains
    image, label = picture()
    params = AugmentParams.sample(np.random.default_rng(3))
    for a, b in zip(target.transform(image, label, params), again.transform(image, label, params), strict=True):
        assert (a == b).all()


@pytest.mark.parametrize("moved", ["yaw", "pitch", "roll", "right", "down", "forward", "zoom", "fov", "k1_offset"])
def test_image_and_label_move_together(moved):
    image, label = picture()
    low, high = params_module.RANGES[moved]
    bent, classes = bare().transform(image, label, AugmentParams.neutral(**{moved: high}))
    still, _ = bare().transform(image, label, AugmentParams.neutral())
    assert np.abs(bent.astype(int) - still).max() > 1
    seen = classes != IGNORE
    away = np.abs(bent[..., 0][seen].astype(int) // 20 - classes[seen])
    assert (away <= 1).all() and (away == 0).mean() > 0.8


def test_a_step_forward_enlarges_what_is_ahead_and_a_step_aside_moves_it():
    source, lens = Pinhole.from_fov((200, 120), 1.5), Fisheye.from_fov((160, 90), 1.2)
    middle = np.array([[79.5, 44.5]])

    def seen(shift, pixels=middle):
        return source.project(remap.rays(lens, pixels, np.eye(3), shift))

    assert np.allclose(seen((0, 0, 0)), source.project(lens.unproject(middle)))
    assert seen((0.1, 0, 0))[0, 0] > seen((0, 0, 0))[0, 0]
    right = np.array([[140.0, 44.5]])
    assert seen((0, 0, 0.2), right)[0, 0] < seen((0, 0, 0), right)[0, 0]


@pytest.mark.parametrize("way", ["none", "statistics", "fourier"])
def test_a_crop_is_what_the_whole_has_there(way, sample, known):
    target = replace(TargetCamera.read(known), appearance=way)
    item = layout.read_split(sample, "train_source")[0]
    image, label = image_files.read_image(item.image), image_files.read_label(item.label)
    params = replace(AugmentParams.sample(np.random.default_rng(1)), noise=0.0, jpeg=101.0, blur=0.0)
    whole, classes = target.transform(image, label, params)
    x, y, width, height = region = (30, 20, 96, 64)
    part, few = target.transform(image, label, params, region)
    view = few != BACKGROUND  # the surroundings have noise of their own
    assert (few == classes[y : y + height, x : x + width]).mean() > 0.995
    off = np.abs(part.astype(int) - whole[y : y + height, x : x + width])[view]
    # Fourier's change is read at every fourth pixel, counted from the crop's corner.
    assert np.percentile(off, 99) <= (4 if way == "fourier" else 2)


def test_statistics_move_to_the_targets():
    image, label = picture((320, 180))
    found = appearance.statistics(
        bare((320, 180), "statistics").transform(image, label, AugmentParams.neutral())[0][40:140, 60:260]
    )
    before = appearance.statistics(image[40:140, 60:260])
    wanted = bare().statistics[0]
    assert np.abs(found[0] - wanted[0]).sum() < 0.5 * np.abs(before[0] - wanted[0]).sum()


def test_fourier_mixing_takes_over_the_brightness_and_keeps_the_detail():
    rng = np.random.default_rng(0)
    source, other = (rng.integers(low, low + 60, (72, 128, 3), dtype=np.uint8) for low in (20, 150))
    change = appearance.fourier_change(source, other)
    assert abs((source + change).mean() - other.mean()) < 2
    assert cv2.Laplacian(change, cv2.CV_32F).std() < 0.05 * cv2.Laplacian(source, cv2.CV_32F).std()
    assert not appearance.fourier_change(source, other, share=0.0).round(3).any()


def test_noise_blur_vignette_and_compression_do_what_they_say():
    grey = np.full((90, 160, 3), 120, np.uint8)
    assert appearance.add_noise(grey, 5.0, 0.3).std() == pytest.approx(5, rel=0.1)
    assert (appearance.add_noise(grey, 5.0, 0.3) != appearance.add_noise(grey, 5.0, 0.6)).any()
    noisy = appearance.add_noise(grey, 20.0, 0.0)
    assert appearance.blur(noisy, 1.0).std() < 0.5 * noisy.std() and appearance.blur(noisy, 0.2) is noisy
    dark = appearance.darken(grey, 0.2, (0, 0, 160, 90), (160, 90))
    assert dark[0, 0, 0] == 96 and dark[45, 80, 0] == 120
    assert (appearance.darken(grey[:40], 0.2, (0, 50, 160, 40), (160, 90)) == dark[50:]).all()
    red = np.zeros((32, 32, 3), np.uint8) + np.array([200, 10, 10], np.uint8)
    assert np.abs(appearance.compress(red, 80).astype(int) - red).max() < 12


def test_images_of_rare_classes_get_more_copies(sample, tmp_path):
    items = layout.read_split(sample, "train_source")
    weights = rare_class_weights(items)
    folder = augment(AugmentOptions(data=sample, out=tmp_path, copies=3))
    made = [item.id.rpartition("_")[0] for item in layout.read_split(folder, "train_source")]
    assert len(made) == 3 * len(items) and set(made) == set(weights)
    number = {i: made.count(i) for i in weights}
    assert number[max(weights, key=weights.get)] > number[min(weights, key=weights.get)]


def test_training_bends_its_crops_itself(sample, known):
    from mmseg.registry import DATASETS

    from lib.training.config import build_config
    from lib.training.data import WeightedInfiniteSampler

    table = layout.read_table(known / "train_source.csv", ("id", "weight"))
    assert len(table) == len(layout.read_split(sample, "train_source"))
    assert not (known / "train_source_image").exists() and len(layout.read_split(known, "val_source")) == 2
    cfg = build_config("demo", known, options={"scale": (192, 108), "crop_size": (64, 96)})
    assert [step["type"] for step in cfg.train_dataloader.dataset.pipeline][0] == "TransformToTarget"
    made = DATASETS.build({**cfg.train_dataloader.dataset, "_scope_": "mmseg"})
    np.random.seed(0)
    sizes = set()
    for _ in range(4):
        packed = made[0]
        image, label = packed["inputs"], packed["data_samples"].gt_sem_seg.data
        assert image.shape[1:] == label.shape[1:]
        sizes.add(tuple(image.shape[1:]))
    assert all(h <= 64 and w <= 96 for h, w in sizes) and (64, 96) in sizes
    drawn = iter(WeightedInfiniteSampler(made, seed=0))
    counts = np.bincount([next(drawn) for _ in range(3000)], minlength=len(made))
    assert np.allclose(counts / 3000, table["weight"].astype(float) / len(made), atol=0.05)


def test_a_fitted_lens_is_used_and_told_of(sample, known, tmp_path):
    described = read_yaml(known / "camera.yaml")
    assert described["lens"] in ("estimated", "guessed for each image") and "long smooth edges" in described["report"]
    assert (known / "lens.png").exists()
    guessed = augment(AugmentOptions(data=sample, out=tmp_path, lens="random"))
    assert read_yaml(guessed / "camera.yaml")["target"] is None and not (guessed / "lens.png").exists()


def test_without_motion_a_fixed_lens_bends_all_images_alike(sample, tmp_path):
    still = TargetCamera.read(
        augment(
            AugmentOptions(data=sample, out=tmp_path / "fixed", lens="fixed", motion=False, appearance="none", copies=0)
        )
    )
    moving = replace(still, motion=True)
    image, label = picture()
    first, second = (AugmentParams.sample(np.random.default_rng(seed)) for seed in (1, 2))
    bent, resized = still.transform(image, label, first)[0], cv2.resize(image, still.size, interpolation=cv2.INTER_AREA)
    assert (bent == still.transform(image, label, second)[0]).all()
    assert (moving.transform(image, label, first)[0] != moving.transform(image, label, second)[0]).any()
    assert np.abs(bent.astype(int) - resized)[~still.overlay.mask].mean() > 3


def test_a_source_that_sees_less_is_drawn_smaller():
    image, label = picture()
    share = [
        (
            replace(bare(), source_fov=view, mirror=False).transform(image, label, AugmentParams.neutral())[1] == IGNORE
        ).mean()
        for view in ((0.8, 0.8), (1.6, 1.6))
    ]
    assert share[0] > share[1] + 0.1


def test_what_the_source_sees_is_told_or_found_where_it_is_needed(sample, tmp_path, monkeypatch):
    fit = estimate.estimate_lens
    monkeypatch.setattr(estimate, "estimate_lens", lambda *given: replace(fit(*given), confidence=0.5))
    found = TargetCamera.read(augment(AugmentOptions(data=sample, out=tmp_path / "found", copies=0)))
    results = read_yaml(tmp_path / "found" / "run.yaml")["augment"]["results"]
    assert np.allclose(np.radians(results["source_fov_deg"]), found.source_fov)
    assert "Field of view" in read_yaml(tmp_path / "found" / "augmented" / "camera.yaml")["source_report"]
    monkeypatch.setattr(estimate, "estimate_field_of_view", None)
    told = TargetCamera.read(
        augment(AugmentOptions(data=sample, out=tmp_path / "told", copies=0, source_fov_deg=(50, 90), mirror=False))
    )
    assert np.allclose(told.source_fov, np.radians((50, 90))) and not told.mirror
    augment(AugmentOptions(data=sample, out=tmp_path / "fixed", copies=0, lens="fixed"))


def test_without_a_lens_the_source_is_resized_and_overlaid(sample, tmp_path):
    target = TargetCamera.read(
        augment(AugmentOptions(data=sample, out=tmp_path, lens="none", motion=False, appearance="none", copies=0))
    )
    image, label = picture()
    bent, classes = target.transform(image, label, AugmentParams.sample(np.random.default_rng(1)))
    size, mask = target.size, target.overlay.mask
    street = cv2.erode(1 - mask.astype(np.uint8), np.ones((9, 9))) > 0
    resized = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    assert np.abs(bent.astype(int) - resized)[street].max() <= 3
    assert (classes == cv2.resize(label, size, interpolation=cv2.INTER_NEAREST_EXACT))[street].mean() > 0.97
    assert (classes[mask] == BACKGROUND).all() and (classes[street] != BACKGROUND).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(source_fov_deg=(90, 60)), "source_fov_deg: .*degrees, the smaller first"),
        (dict(source_fov_deg=60), "source_fov_deg: 60 .*two angles"),
        (dict(lens="wide"), "lens: 'wide' .*estimated, random"),
        (dict(appearance="warm"), "appearance: 'warm' .*statistics, fourier, none"),
        (dict(copies=-1), "copies: -1"),
        (dict(copies=0, augment=False), "copies: 0"),
    ],
)
def test_wrong_parameters_are_named_before_anything_is_written(sample, tmp_path, wrong, message):
    with pytest.raises(InputError, match=message):
        augment(AugmentOptions(data=sample, out=tmp_path / "run", **wrong))
    assert not (tmp_path / "run").exists()


def with_frames(sample, folder, frames):
    """A copy of the sample whose target frames are these ``(file name, array as OpenCV writes it)``."""
    import shutil

    shutil.copytree(sample, folder)
    (folder / "train_target.csv").write_text(
        "id,img_path\n" + "".join(f"T_{i},./own/{name}\n" for i, (name, _) in enumerate(frames))
    )
    (folder / "own").mkdir()
    for name, array in frames:
        cv2.imwrite(str(folder / "own" / name), array)
    return folder


def test_odd_target_frames_work_or_end_in_one_sentence(sample, tmp_path):
    frames = [cv2.imread(str(item.image)) for item in layout.read_split(sample, "train_target")]
    grey, deep = cv2.cvtColor(frames[0], cv2.COLOR_BGR2GRAY), frames[1].astype(np.uint16) * 257
    clear = cv2.cvtColor(frames[2], cv2.COLOR_BGR2BGRA)
    mixed = [("a.png", frames[0]), ("b.png", cv2.resize(frames[1], (96, 54)))]
    for name, chosen, message in (
        ("one", [("a.png", frames[0])], "1 target frame"),
        ("mixed", mixed, "b.png: 96x54 px, but .*a.png has 192x108"),
        ("black", [("a.png", frames[0] * 0), ("b.png", frames[1] * 0)], "0 of 2 target frames show anything"),
    ):
        with pytest.raises(InputError, match=message):
            augment(AugmentOptions(data=with_frames(sample, tmp_path / name, chosen), out=tmp_path / f"out-{name}"))
    odd = [("grey.png", grey), ("deep.png", deep), ("clear.png", clear), ("black.png", frames[3] * 0)]
    data = with_frames(sample, tmp_path / "odd", odd + [(f"{i}.png", frame) for i, frame in enumerate(frames[4:])])
    folder = augment(AugmentOptions(data=data, out=tmp_path / "out-odd"))
    assert len(layout.read_split(folder, "train_source")) == 6


def test_sliders_redraw(known, sample):
    pytest.importorskip("ipywidgets")
    from lib.diagnostics import explore

    box = explore.sliders(known, layout.read_split(sample, "train_source"), width=200)
    grid, shown = box.children
    seen = {shown.value}
    for control in grid.children[:6]:
        control.value = control.max
        seen.add(shown.value)
    assert len(seen) >= 6


def test_class_layout_counts_where_classes_are():
    from lib.diagnostics import explore

    label = np.zeros((72, 128), np.uint8)
    label[:36] = 8
    layout = explore.class_layout([label, np.zeros_like(label)])
    assert layout.shape == (13, 36, 64) and layout[8, :18].mean() == 0.5 and layout[0, 18:].mean() == 1


@pytest.fixture
def unlabelled_corner(sample, tmp_path):
    """The sample with an unlabelled corner in every source label."""
    folder = tmp_path / "data"
    shutil.copytree(sample, folder)
    for file in folder.glob("*_source_gt/*.png"):
        label = image_files.read_label(file)
        label[:40, :60] = IGNORE
        image_files.write_png(file, label)
    return folder


def test_unlabelled_pixels_become_background_if_asked(unlabelled_corner, tmp_path):
    for way, expected in (("ignore", IGNORE), ("background", BACKGROUND)):
        folder = augment(AugmentOptions(data=unlabelled_corner, out=tmp_path / way, augment=False, unlabelled=way))
        for split in ("train_source", "val_source"):
            label = image_files.read_label(layout.read_split(folder, split)[0].label)
            assert (label[:40, :60] == expected).all()


@pytest.mark.slow
def test_unlabelled_pixels_become_background_for_crops_too(unlabelled_corner, tmp_path):
    options = AugmentOptions(data=unlabelled_corner, out=tmp_path / "run", copies=0, unlabelled="background")
    item = layout.read_split(augment(options), "train_source")[0]
    before = layout.read_split(unlabelled_corner, "train_source")[0]
    assert item.image.resolve() == before.image.resolve()
    expected = image_files.read_label(before.label)
    expected[expected == IGNORE] = BACKGROUND
    np.testing.assert_array_equal(image_files.read_label(item.label), expected)
