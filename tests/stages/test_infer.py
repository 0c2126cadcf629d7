"""Stage 03: options, masks, interruptions, refusals."""

import shutil

import numpy as np
import pandas as pd
import pytest

from lib.dataset import image_files, layout
from lib.dataset.classes import BACKGROUND
from lib.errors import InputError
from lib.files import read_yaml, write_yaml
from lib.stages.infer import InferOptions, infer
from tests.builders import IMAGE_SIZE, camera, random_run


@pytest.fixture
def ready(sample, tmp_path):
    """A run folder as stages 01 and 02 leave it."""
    out = tmp_path / "out"
    random_run(out / "train", 0)
    camera(*IMAGE_SIZE).write(out / "augmented")
    items = layout.read_split(sample, "train_source")
    rows = [dict(id=item.id, img_path=str(item.image.resolve()), gt_path=str(item.label.resolve())) for item in items]
    pd.DataFrame(rows).to_csv(out / "augmented" / "train_source.csv", index=False)
    write_yaml(out / "run.yaml", {"train": {"parameters": {}}})
    return out


def test_every_option_reaches_the_masks(sample, ready, other):
    everything = dict(
        checkpoint=[ready / "train" / "iter_1.pth", other[1]],
        sliding=True,
        flip=True,
        scales=[1.0, 0.7],
        window_blend="gaussian",
        rectified_views=2,
        norm_adaptation=0.5,
        feature_alignment=0.3,
        apply_overlay=True,
        min_region=2.0,
        crops_per_batch=6,
    )
    masks = infer(InferOptions(data=sample, out=ready, **everything))
    first = {path.name: path.read_bytes() for path in masks.glob("*.png")}
    for name in first:
        label = image_files.read_label(masks / name)
        assert ((label == BACKGROUND) == camera(*IMAGE_SIZE).overlay.mask).all()
    noted = read_yaml(masks / "parameters.yaml")
    names = [name for name in everything if name not in ("checkpoint", "crops_per_batch")]
    assert {name: noted[name] for name in names} == {name: everything[name] for name in names}
    assert len(noted["checkpoint"]) == 2
    # One image is done again after a stop, and comes out as it was.
    name = sorted(first)[1]
    (masks / name).unlink()
    infer(InferOptions(data=sample, out=ready, **everything))
    assert {path.name: path.read_bytes() for path in masks.glob("*.png")} == first
    with pytest.raises(InputError, match="rectified_views: 2 there, 3 now"):
        infer(InferOptions(data=sample, out=ready, **{**everything, "rectified_views": 3}))


def test_options_that_change_no_mask_are_not_recorded(sample, ready):
    noted = read_yaml(infer(InferOptions(data=sample, out=ready)) / "parameters.yaml")
    changes_nothing = {"data", "out", "crops_per_batch", "compile", "device", "overwrite", "restart", "other_data"}
    assert set(noted) == set(InferOptions.names()) - changes_nothing


@pytest.mark.parametrize(
    "given, said",
    [
        (dict(window_blend="cubic"), "window_blend: 'cubic'"),
        (dict(crops_per_batch=0), "crops_per_batch: 0"),
        (dict(rectified_views=-1), "rectified_views: -1"),
        (dict(norm_adaptation=1.5), "norm_adaptation: 1.5"),
        (dict(feature_alignment=-1), "feature_alignment: -1"),
        (dict(min_region=-1), "min_region: -1"),
        (dict(checkpoint=[]), r"checkpoint: \[\] .expected: .*1 or more"),
        (dict(checkpoint=["gone.pth"]), r"gone\.pth: no such file"),
        (dict(scales=[1, 0]), "scales"),
    ],
)
def test_bad_options_are_refused_before_masks_are_deleted(sample, ready, given, said):
    mask = ready / "masks" / "TEST_0000.png"
    image_files.write_png(mask, np.zeros((2, 2), np.uint8))
    with pytest.raises(InputError, match=said):
        infer(InferOptions(data=sample, out=ready, overwrite=True, **given))
    assert mask.exists()


def test_views_and_overlay_need_a_known_camera(sample, ready):
    described = read_yaml(ready / "augmented" / "camera.yaml")
    write_yaml(ready / "augmented" / "camera.yaml", {**described, "target": None})
    with pytest.raises(InputError, match="lens is not known"):
        infer(InferOptions(data=sample, out=ready, rectified_views=3))
    (ready / "augmented" / "camera.yaml").unlink()
    for given in (dict(rectified_views=3), dict(apply_overlay=True)):
        with pytest.raises(InputError, match=r"camera\.yaml does not exist.*Run 01_augment"):
            infer(InferOptions(data=sample, out=ready, **given))


def test_a_changed_test_image_is_noticed(sample, ready, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(sample, data)
    infer(InferOptions(data=data, out=ready))
    item = layout.read_split(data, "test")[0]
    image_files.write_png(item.image, 255 - image_files.read_image(item.image))
    with pytest.raises(InputError, match=f"other inputs .changed: .*{item.image.name}.*overwrite"):
        infer(InferOptions(data=data, out=ready))
    before = (ready / "masks" / f"{item.id}.png").read_bytes()
    infer(InferOptions(data=data, out=ready, overwrite=True))
    assert (ready / "masks" / f"{item.id}.png").read_bytes() != before
