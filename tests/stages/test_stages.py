"""The stages on a tiny data set: real training in a child process, kills and resumptions, refusals."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from lib.dataset import image_files, layout
from lib.dataset.classes import BACKGROUND, CLASSES_WITH_BACKGROUND, IGNORE
from lib.errors import InputError
from lib.files import read_yaml
from lib.run import finished
from lib.stages import train
from lib.stages.augment import AugmentOptions, augment
from lib.stages.infer import infer
from lib.synthesis.params import AugmentParams
from lib.synthesis.target_camera import TargetCamera
from lib.target.overlay import Overlay
from lib.training import process
from tests.builders import SMALL

ROOT = Path(__file__).parents[2]
QUICK = dict(max_iters=4, batch_size=2, options=SMALL)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def start(code: str) -> subprocess.Popen:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_when(process: subprocess.Popen, condition, seconds: float = 120) -> None:
    """SIGKILL the process as soon as the condition holds; fail if it ended before."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the process ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="session")
def trained(augmented, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "trained"
    shutil.copytree(augmented, out)
    train.train(out, **QUICK)
    return out


# 01


def test_augmented_images_look_like_targets(sample, augmented):
    folder = augmented / "augmented"
    for split, count in (("train_source", 6), ("val_source", 2)):
        items = layout.read_split(folder, split)
        assert len(items) == count
        for item in items:
            label = image_files.read_label(item.label)
            assert label.shape == (108, 192) == image_files.read_image(item.image).shape[:2]
            assert (label == BACKGROUND).mean() > 0.05
    mask, plate = (
        image_files.read_label(folder / "overlay_mask.png") > 0,
        image_files.read_image(folder / "overlay.png"),
    )
    mask = cv2.erode(mask.astype(np.uint8), np.ones((5, 5))) > 0  # its edge is soft
    off = image_files.read_image(items[0].image)[mask].astype(float) - plate[mask]  # but for noise and compression
    assert np.abs(off).mean() < 8
    layout.check(folder, ("train_source", "val_source"), classes=len(CLASSES_WITH_BACKGROUND))


def test_the_same_seed_gives_the_same_files(sample, augmented, tmp_path):
    augment(AugmentOptions(data=sample, out=tmp_path / "same", seed=1))
    assert tree(tmp_path / "same" / "augmented") == tree(augmented / "augmented")
    augment(AugmentOptions(data=sample, out=tmp_path / "other", seed=2))
    assert tree(tmp_path / "other" / "augmented") != tree(augmented / "augmented")


def test_overwriting_makes_the_set_anew(sample, augmented, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(augmented, out)
    with pytest.raises(InputError, match="seed: 1 there, 2 now"):
        augment(AugmentOptions(data=sample, out=out, seed=2))
    augment(AugmentOptions(data=sample, out=out, seed=2, overwrite=True))
    assert len(layout.read_split(out / "augmented", "train_source")) == 6
    assert tree(out / "augmented") != tree(augmented / "augmented")


def test_killed_augmentation_ends_with_the_same_files(sample, augmented, tmp_path):
    out = tmp_path / "killed"
    process = start(
        f"from lib.stages.augment import AugmentOptions, augment; augment(AugmentOptions(data={str(sample)!r}, out={str(out)!r}, seed=1))"
    )
    kill_when(process, lambda: any(out.glob("augmented/train_source_gt/*.png")))
    assert finished(out, "augment") is None
    for half in out.rglob("*.png"):
        if not half.name.startswith("."):
            image_files.read_label(half) if "gt" in half.parent.name else image_files.read_image(half)
    augment(AugmentOptions(data=sample, out=out, seed=1))
    assert {k: v for k, v in tree(out / "augmented").items() if ".tmp" not in k} == tree(augmented / "augmented")


def test_known_cameras_bend_the_source_exactly():
    """Bending what a pinhole saw of a street gives what the fisheye sees of the same street."""
    from lib.sample import render, source_camera, target_camera

    source, target = source_camera((640, 360)), target_camera((320, 180))
    image, label = render(5, source)
    truth = render(5, target)[1]
    nothing = Overlay(np.zeros((180, 320), bool), np.zeros((180, 320, 3), np.uint8), np.zeros((180, 320), np.float32))
    knowing = TargetCamera(
        nothing, target, source, np.zeros((1, 2, 3)), np.zeros((1, 72, 128, 3)), "none", mirror=False
    )
    _, bent = knowing.transform(image, label, AugmentParams.neutral())
    seen = bent != IGNORE
    assert 0.1 < seen.mean() < 0.9
    assert (bent == truth)[seen].mean() > 0.96


def test_known_cameras_are_read_and_described(sample, tmp_path):
    augment(AugmentOptions(data=sample, out=tmp_path, cameras_file=sample / "withheld" / "cameras.yaml", copies=2))
    assert len(layout.read_split(tmp_path / "augmented", "train_source")) == 12
    described = read_yaml(tmp_path / "augmented" / "camera.yaml")
    assert described["source"]["model"] == "Pinhole" and described["target"]["model"] == "Fisheye"


def test_augmented_images_take_on_the_targets_colours(sample, augmented, tmp_path):
    augment(AugmentOptions(data=sample, out=tmp_path, seed=1, appearance="none"))
    frames = [image_files.read_image(item.image) for item in layout.read_split(sample, "train_target")]
    view = image_files.read_label(augmented / "augmented" / "overlay_mask.png") == 0

    def distance(folder):
        images = [
            image_files.read_image(item.image) for item in layout.read_split(folder / "augmented", "train_source")
        ]
        return np.abs(
            np.mean([i[view].mean(0) for i in images], 0) - np.mean([f[view].mean(0) for f in frames], 0)
        ).max()

    assert distance(augmented) < 0.6 * distance(tmp_path)


def test_without_augmentation_the_source_is_only_resized(sample, tmp_path):
    augment(AugmentOptions(data=sample, out=tmp_path, augment=False))
    item = layout.read_split(tmp_path / "augmented", "val_source")[0]
    before = layout.read_split(sample, "val_source")[0]
    size = image_files.read_image(layout.read_split(sample, "train_target")[0].image).shape[1::-1]
    resized = cv2.resize(image_files.read_label(before.label), size, interpolation=cv2.INTER_NEAREST_EXACT)
    assert (image_files.read_label(item.label) == resized).all()
    assert not (image_files.read_label(item.label) == BACKGROUND).any()


def test_faulty_camera_files_are_named(sample, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        augment(AugmentOptions(data=sample, out=tmp_path / "a", cameras_file=tmp_path / "gone.yaml"))
    (tmp_path / "half.yaml").write_text("source: {model: Pinhole}\n")
    with pytest.raises(InputError, match="expected: a camera under `source` and one under `target`|fields"):
        augment(AugmentOptions(data=sample, out=tmp_path / "b", cameras_file=tmp_path / "half.yaml"))


# 02


def test_training_leaves_checkpoint_config_and_curves(trained):
    folder = trained / "train"
    best = train.best_checkpoint(trained)
    assert best.name.startswith("best_mIoU_iter_")
    losses = train.scalars(trained)
    assert np.isfinite(losses["mIoU"][1]).all()
    assert (folder / "config.py").exists() and (folder / "curves.png").exists() and (folder / "train.log").exists()
    assert list(folder.glob("*/vis_data/events.out.tfevents*")), "scalars for TensorBoard"
    record = finished(trained, "train")
    assert record["parameters"]["recipe"] == "demo" and record["results"]["checkpoint"] == best.name


def test_a_finished_training_is_not_repeated(trained):
    before = train.best_checkpoint(trained).stat().st_mtime_ns
    assert train.train(trained, **QUICK).stat().st_mtime_ns == before
    with pytest.raises(InputError, match="seed: 0 there, 5 now"):
        train.train(trained, **QUICK, seed=5)


def test_two_processes_train_together_on_the_cpu(augmented, tmp_path):
    out = tmp_path / "two"
    shutil.copytree(augmented, out)
    train.train(out, processes=2, **QUICK)
    assert np.isfinite(train.scalars(out)["mIoU"][1]).all()
    assert len(list((out / "train").glob("best_mIoU_*.pth"))) == 1
    assert finished(out, "train")["results"]["processes"] == 2


@pytest.mark.parametrize("processes", [1, 2])
def test_a_crash_is_told_in_the_process_own_words(processes, tmp_path):
    (tmp_path / "config.py").write_text("import os; os.abort()")
    with pytest.raises(RuntimeError, match=r"train\.log") as crash:
        process.run(tmp_path, processes, 1, 0)
    said = str(crash.value)
    assert "Fatal Python error: Aborted" in said and "config.py" in said
    assert "distributed" not in said, "how torchrun ended"


def test_killed_training_goes_on_from_its_last_checkpoint(augmented, tmp_path):
    out = tmp_path / "killed"
    shutil.copytree(augmented, out)
    quick = {"batch_size": 2, "options": {**SMALL, "max_iters": 30, "warmup_iters": 3, "val_interval": 5}}
    process = start(f"from lib.stages.train import train; train({str(out)!r}, **{quick!r})")
    kill_when(process, lambda: any((out / "train").glob("iter_*.pth")))
    saved = sorted(int(p.stem.split("_")[1]) for p in (out / "train").glob("iter_*.pth"))
    assert finished(out, "train") is None and saved[-1] < 30
    _wait_until_gone(out)
    train.train(out, **quick)
    log = (out / "train" / "train.log").read_text()
    assert "resumed epoch" in log
    assert (out / "train" / "iter_30.pth").exists() and train.best_checkpoint(out)
    assert train.scalars(out)["mIoU"][0] == [5, 10, 15, 20, 25, 30]


def _wait_until_gone(out: Path) -> None:
    """The child ends by itself when its parent is killed."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        alive = subprocess.run(["pgrep", "-f", f"lib.training.process {out}"], capture_output=True, text=True).stdout
        if not alive:
            return
        time.sleep(0.2)
    raise AssertionError("the training process outlived its parent")


def test_start_weights_of_another_variant_are_refused(trained, augmented, tmp_path):
    out = tmp_path / "other"
    shutil.copytree(augmented, out)
    wide = {
        **SMALL,
        "model.backbone.channels": 32,
        "model.decode_head.in_channels": [32, 64, 128, 256],
        "model.auxiliary_head.in_channels": 128,
    }
    with pytest.raises(InputError, match="best_mIoU_iter_.*pth") as refusal:
        train.train(out, max_iters=2, batch_size=2, options=wide, load_from=train.best_checkpoint(trained))
    assert "\n" not in str(refusal.value)


def test_a_refused_request_keeps_the_former_training(trained, tmp_path):
    before = tree(trained / "train")
    with pytest.raises(InputError, match="gone.pth: no such file"):
        train.train(trained, **QUICK, load_from=tmp_path / "gone.pth", overwrite=True)
    assert tree(trained / "train") == before


def test_start_weights_are_used(trained, augmented, tmp_path):
    import torch

    out = tmp_path / "warm"
    shutil.copytree(augmented, out)
    still = {**SMALL, "optim_wrapper.optimizer.lr": 0.0}
    best = train.best_checkpoint(trained)
    train.train(out, max_iters=1, batch_size=2, options=still, load_from=best)
    before, after = (torch.load(p, weights_only=False)["state_dict"] for p in (best, train.best_checkpoint(out)))
    for name, value in before.items():  # what is normalised goes on being counted
        assert torch.equal(value, after[name]) or name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def test_other_classes_carry_over_by_name_when_asked(trained, augmented, tmp_path, monkeypatch):
    import torch
    from mmseg.utils import get_classes

    content = torch.load(train.best_checkpoint(trained), weights_only=False)["state_dict"]
    for name in content:
        if ".conv_seg." in name:  # rows numbered from 1; Cityscapes has 19 of them
            rows = torch.arange(1.0, 20).reshape(-1, *[1] * (content[name].ndim - 1))
            content[name] = rows.expand(19, *content[name].shape[1:]).clone()
    torch.save({"state_dict": content}, tmp_path / "cityscapes.pth")
    monkeypatch.setenv("INTERNIMAGE_WEIGHTS", str(tmp_path))
    out = tmp_path / "other"
    shutil.copytree(augmented, out)
    still = {**SMALL, "optim_wrapper.optimizer.lr": 0.0}
    with pytest.raises(InputError, match="19 rows in the file and 13 in the network"):
        train.train(out, max_iters=1, batch_size=2, options=still, load_from="cityscapes.pth")
    start = {"checkpoint": "cityscapes", "classes": "cityscapes"}
    best = train.train(out, max_iters=1, batch_size=2, options=still, load_from=start)
    bias = torch.load(best, weights_only=False)["state_dict"]["decode_head.conv_seg.bias"].tolist()
    assert (
        bias[:2] == [1, 2] and bias[CLASSES_WITH_BACKGROUND.index("Car")] == get_classes("cityscapes").index("car") + 1
    )
    assert bias[BACKGROUND] == 0
    assert "Construction from building" in (out / "train" / "train.log").read_text()
    assert read_yaml(out / "train" / "parameters.yaml")["load_from"] == start


def test_training_needs_an_augmented_set(tmp_path):
    with pytest.raises(InputError, match="Run 01_augment"):
        train.train(tmp_path)


# 03


def test_masks_are_class_ids_of_the_test_images(sample, trained):
    masks = infer(sample, trained)
    for item in layout.read_split(sample, "test"):
        mask = image_files.read_label(masks / f"{item.id}.png")
        assert mask.shape == image_files.read_image(item.image).shape[:2] and mask.max() <= BACKGROUND
        assert (trained / "visualization" / f"{item.id}.jpg").exists()
    before = tree(masks)
    infer(sample, trained)
    assert tree(masks) == before


def test_killed_inference_ends_with_the_same_files(sample, trained, tmp_path):
    whole = infer(sample, trained)
    out = tmp_path / "killed"
    shutil.copytree(trained, out, ignore=shutil.ignore_patterns("masks", "visualization"))
    slow = (
        "import lib.stages.infer as i, time; f = i._write_picture; i._write_picture = lambda *a: (f(*a), time.sleep(2))"
    )
    process = start(f"{slow}; i.infer({str(sample)!r}, {str(out)!r})")
    kill_when(process, lambda: any(out.glob("visualization/TEST*.jpg")))
    done = len(list(out.glob("visualization/TEST*.jpg")))
    assert 0 < done < len(layout.read_split(sample, "test"))
    assert tree(infer(sample, out)) == tree(whole)


def test_averages_are_probabilities_and_symmetric(sample, trained):
    from lib.stages.infer import Predictor

    image = image_files.read_image(layout.read_split(sample, "test")[0].image)
    config, best = trained / "train" / "config.py", train.best_checkpoint(trained)
    plain = Predictor(config, best).probabilities(image)
    assert plain.shape == (len(CLASSES_WITH_BACKGROUND), *image.shape[:2])
    assert np.allclose(plain.sum(0), 1, atol=1e-5)
    flipped = Predictor(config, best, flip=True)
    mirrored = flipped.probabilities(np.ascontiguousarray(image[:, ::-1]))
    assert np.allclose(flipped.probabilities(image).flip(2), mirrored, atol=1e-5)
    several = Predictor(config, best, scales=(0.75, 1.0), sliding=True).probabilities(image)
    assert np.allclose(several.sum(0), 1, atol=1e-5) and not np.allclose(several, plain, atol=1e-3)


def test_inference_refuses_what_does_not_fit(sample, trained, augmented, tmp_path):
    with pytest.raises(InputError, match="Run 02_train"):
        infer(sample, augmented)
    with pytest.raises(InputError, match="scales"):
        infer(sample, trained, scales=[])
    broken = tmp_path / "broken.pth"
    broken.write_bytes(train.best_checkpoint(trained).read_bytes()[:5000])
    out = tmp_path / "out"
    shutil.copytree(trained / "train", out / "train")
    with pytest.raises(InputError, match=r"broken\.pth"):
        infer(sample, out, checkpoint=broken)
