"""Rehearsal: held-out source images rendered by the estimated target camera, with their labels."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lib.camera import models
from lib.dataset import image_files, layout
from lib.dataset.classes import IGNORE
from lib.errors import InputError
from lib.sample import write
from lib.synthesis import estimate as estimate_module
from lib.synthesis.estimate import MAX_FILL_FOV_RAD, horizontal_fov
from lib.synthesis.target_camera import TargetCamera
from lib.tools import rehearsal


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data") / "set", source=3, val=6, target=8, test=1, size=(192, 108))


def test_held_out_images_and_labels_move_together(data, tmp_path):
    out = rehearsal.rehearse(data, tmp_path / "out")
    layout.check(out, ("train_source", "val_source", "train_target", "test"))
    assert rehearsal.summary(out) == f"{out}: 3 train_source, 2 val_source, 2 train_target, 2 test"
    validation = layout.read_split(data, "val_source")
    kept = [item.image for item in layout.read_split(out, "val_source")]
    assert kept == [validation[0].image, validation[5].image]
    target = TargetCamera.read(out / "withheld" / "camera")
    mask = target.overlay.mask
    source = models.Pinhole.from_fov((192, 108), min(MAX_FILL_FOV_RAD, horizontal_fov(target.lens, mask)))
    ys, xs = np.mgrid[:108, :192]
    there = source.project(target.lens.unproject(np.stack([xs, ys], -1).reshape(-1, 2).astype(float)))
    shown = {"train_target": validation[1:5:2], "test": validation[2:5:2]}
    for split, items in shown.items():
        made = layout.read_split(out, split)
        assert len(made) == len(items)
        for new, old in zip(made, items, strict=True):
            label = image_files.read_label(out / "withheld" / f"{split}_gt" / f"{new.id}.png")
            assert label.shape == (108, 192) == image_files.read_image(new.image).shape[:2]
            assert (label[mask] == IGNORE).mean() > 0.95
            seen = (label != IGNORE).ravel() & np.isfinite(there).all(1)
            x, y = there[seen].round().astype(int).T
            right = image_files.read_label(old.label)[y.clip(0, 107), x.clip(0, 191)] == label.ravel()[seen]
            assert seen.mean() > 0.4 and right.mean() > 0.95


@pytest.mark.slow
def test_the_same_seed_gives_the_same_files(data, tmp_path):
    first, second, other = (
        rehearsal.rehearse(data, tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    image = Path("test_image") / "TEST_0001.png"
    assert (first / image).read_bytes() == (second / image).read_bytes() != (other / image).read_bytes()


@pytest.mark.slow
def test_unsuitable_data_is_refused(data, tmp_path, monkeypatch):
    few = write(tmp_path / "few", source=3, val=2, target=2, test=1, size=(192, 108))
    out = tmp_path / "out"

    def refusal(data, out) -> str:
        with pytest.raises(InputError) as caught:
            rehearsal.rehearse(data, out)
        return str(caught.value)

    assert "no such folder" in refusal(tmp_path / "nowhere", out)
    assert "val_source: 2 images" in refusal(few, out)
    assert "holds something else" in refusal(data, data)
    (tmp_path / "file").touch()
    assert "holds something else" in refusal(data, tmp_path / "file")
    fit = estimate_module.estimate_lens
    monkeypatch.setattr(estimate_module, "estimate_lens", lambda *given: replace(fit(*given), confidence=0.0))
    assert "too little of its lens" in refusal(data, out) and not out.exists(), "a refusal left something"


@pytest.mark.slow
def test_a_data_set_is_known_by_its_content(data, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(data, copy)
    out = rehearsal.rehearse(data, tmp_path / "out")
    rehearsal.rehearse(copy, out)
    label = layout.read_split(copy, "val_source")[1].label
    image_files.write_png(label, np.zeros((108, 192), np.uint8))
    with pytest.raises(InputError, match="same data and seed"):
        rehearsal.rehearse(copy, out)
