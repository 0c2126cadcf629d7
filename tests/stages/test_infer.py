"""Inference part by part: windows, the lighter network, averages, and what is done at test time."""

import inspect
import json
import weakref
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lib.dataset import image_files, layout
from lib.dataset.classes import BACKGROUND
from lib.errors import InputError
from lib.files import read_yaml, write_yaml
from lib.prediction import windows
from lib.prediction.network import Network
from lib.stages.infer import Predictor, infer
from tests.builders import IMAGE_SIZE as SIZE
from tests.builders import KINDS, camera, random_run

# Windows


@pytest.mark.parametrize("blend", windows.BLENDS)
@pytest.mark.parametrize("size", [(64, 96), (108, 192), (50, 300)])
def test_windows_of_a_constant_blend_to_it(run, blend, size):
    predictor = Network(*run, sliding=True, blend=blend, batch=5)
    value = torch.linspace(-3, 3, KINDS)[:, None, None]
    predictor._logits = lambda crops: value.expand(len(crops), -1, *crops.shape[2:])
    blended = predictor._blended(torch.zeros(2, 3, *size))
    assert blended.shape == (2, KINDS, *size)
    assert torch.allclose(blended, value.expand(2, -1, *size), atol=1e-5)


def test_a_windows_weight_falls_to_its_border():
    for blend in ("triangular", "gaussian"):
        weight = windows.weights(blend, (21, 41))
        assert weight.argmax() == weight.size // 2 and weight.min() > 0
        assert (np.diff(weight[10, :21]) >= 0).all() and weight[10, 0] < 0.1 * weight[10, 20]
        assert np.allclose(weight, weight[::-1, ::-1])
    assert (windows.weights("constant", (3, 4)) == 1).all()


def test_blended_windows_are_smoother_than_a_plain_mean(run):
    """Where windows disagree, weights that fall to the border leave no step at the border."""
    steps = {}
    for blend in windows.BLENDS:
        predictor = Network(*run, sliding=True, blend=blend)
        count = iter(range(99))
        predictor._logits = lambda crops, c=count: torch.full((len(crops), KINDS, *crops.shape[2:]), float(next(c) % 2))
        row = predictor._blended(torch.zeros(1, 3, 64, 192))[0, 0, 32]
        steps[blend] = row.diff().abs().max()
    assert steps["constant"] >= 0.5 and max(steps["triangular"], steps["gaussian"]) < 0.2


def test_plain_windows_are_those_of_mmseg(run, images):
    """The same logits as mmseg's own slide mode, whatever the batch, with the network as it is and made lighter."""
    theirs = Network(*run, sliding=True)
    theirs.model.test_cfg = type(theirs.model.test_cfg)(mode="slide", crop_size=theirs.window, stride=theirs.stride)
    pixels = theirs.inputs(images)
    size = pixels.shape[2:]
    meta = dict(ori_shape=size, img_shape=size, pad_shape=size, padding_size=[0] * 4)
    with torch.inference_mode():
        expected = theirs.model.inference(pixels, [dict(meta) for _ in images])
        for batch, lighter in ((1, False), (7, False), (7, True)):
            ours = Network(*run, sliding=True, batch=batch)
            if lighter:
                ours.make_ready()
            found = ours._blended(pixels)
            assert torch.allclose(found, expected, atol=1e-4 * expected.abs().max())
            assert (found.argmax(1) == expected.argmax(1)).float().mean() > 0.999


# The lighter network


def test_a_convolution_split_by_level_is_the_one_of_the_stack():
    from lib.prediction.fusion import SplitConvolution

    torch.manual_seed(0)
    conv = nn.Conv2d(4 * 6, 5, 3, padding=1)
    maps = [torch.randn(2, 6, *size) for size in ((27, 48), (14, 24), (7, 12), (4, 6))]  # sizes rounded up
    stack = [nn.functional.interpolate(m, size=(27, 48), mode="bilinear", align_corners=False) for m in maps]
    with torch.no_grad():
        assert torch.allclose(SplitConvolution(conv, 6)(maps), conv(torch.cat(stack, 1)), atol=1e-5)


def test_the_lighter_network_has_no_batch_norms_left(run):
    ours = Network(*run)
    ours.make_ready()
    assert not [m for m in ours.model.decode_head.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert "_forward_feature" in vars(ours.model.decode_head)


def test_a_compiled_network_gives_the_same(run, images, monkeypatch):
    translated = []

    def backend(graph, example):
        translated.append(graph)
        return graph.forward

    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **kwargs: compiled(f, backend=backend))
    expected = Predictor(*run).probabilities(images[0])
    assert torch.allclose(Predictor(*run, compile=True).probabilities(images[0]), expected, atol=1e-5)
    assert len(translated) >= 2  # backbone and head


# Averages


def test_several_checkpoints_are_averaged(run, other, images):
    """Also one of another run, with its own image size."""
    first, second = (Predictor(*one).probabilities(images[0]) for one in (run, other))
    both = Predictor(*run, more=[other]).probabilities(images[0])
    assert torch.allclose(both, (first + second) / 2, atol=1e-6) and not torch.allclose(both, first, atol=1e-2)


def test_images_in_a_batch_are_labelled_as_alone(run, images):
    options = dict(sliding=True, flip=True, scales=(1.0, 0.8), blend="gaussian")
    alone, together = (Predictor(*run, batch=batch, **options) for batch in (1, 64))
    for i, found in enumerate(together._probabilities(images)):
        assert torch.allclose(found, alone.probabilities(images[i]), atol=1e-3)
    assert together._together(images[0].shape[:2]) > 1 == alone._together(images[0].shape[:2])


def test_images_of_several_sizes_come_back_in_order(run, images, tmp_path):
    items = []
    for i, image in enumerate([images[0], images[1], images[0][:60], images[2]]):
        image_files.write_png(tmp_path / f"{i}.png", image)
        items.append(layout.Item(str(i), tmp_path / f"{i}.png"))
    alone = [Predictor(*run)(image_files.read_image(item.image)) for item in items]
    found = list(Predictor(*run, batch=8).labels_of(items))
    assert [item for item, _, _ in found] == items
    for (_, image, label), expected in zip(found, alone, strict=True):
        assert label.shape == image.shape[:2] and (label == expected).mean() > 0.999


def test_memory_does_not_grow_with_windows_or_networks(run, images):
    """No more crops at once than asked for, and one network's probabilities besides the sum."""
    predictor = Predictor(*run, more=[run] * 3, sliding=True, flip=True, batch=4)
    sizes, alive = [], []
    for one in predictor.networks:
        inner, whole = one._logits, one.probabilities

        def noted(crops, inner=inner):
            sizes.append(len(crops))
            return inner(crops)

        def kept(*arguments, whole=whole):
            found = whole(*arguments)
            alive[:] = [ref for ref in alive if ref() is not None]
            assert len(alive) <= 1
            alive.append(weakref.ref(found))
            return found

        one._logits, one.probabilities = noted, kept
    predictor(images[0])
    assert max(sizes) == 4 and len(sizes) == 4 * -(-predictor.networks[0].crops((108, 192)) // 4)


def test_scores_are_normalised_and_logits_go_through_softmax(run):
    ours, values = Network(*run), torch.tensor([0.2, 0.0, 0.6])[:, None, None].expand(-1, 2, 2)
    assert torch.allclose(ours._normalised(values, (4, 4)).sum(0), torch.ones(4, 4))
    assert torch.allclose(ours._normalised(values, (2, 2)), values.softmax(0))
    ours.scores = True
    assert torch.allclose(ours._normalised(values, (2, 2))[:, 0, 0], torch.tensor([0.25, 0, 0.75]), atol=1e-4)
    assert torch.allclose(ours._normalised(0 * values, (2, 2)), torch.full((3, 2, 2), 1 / 3))


@pytest.mark.parametrize("name, scores", [("Mask2FormerHead", True), ("Mask2FormerLogitsHead", False)])
def test_the_heads_kind_decides_whether_it_answers_with_scores(run, name, scores, monkeypatch):
    from mmseg.registry import MODELS

    build = MODELS.build

    def built(cfg):
        model = build(cfg)
        if not hasattr(model, "decode_head"):
            return model
        model.decode_head.__class__ = type(name, (type(model.decode_head),), {})
        return model

    monkeypatch.setattr(MODELS, "build", built)
    assert Network(*run).scores is scores


def test_mixed_precision_on_request(run, images):
    exact, mixed = (Predictor(*run, amp=amp).probabilities(images[0]) for amp in (None, True))
    assert mixed.dtype == torch.float32 and not torch.equal(exact, mixed)
    assert (exact - mixed).abs().mean() < 0.05


# The stage


@pytest.fixture
def ready(sample, tmp_path):
    """A run folder as stages 01 and 02 leave it."""
    out = tmp_path / "out"
    random_run(out / "train", 0)
    camera(*SIZE).write(out / "augmented")
    items = layout.read_split(sample, "train_source")
    rows = [dict(id=item.id, img_path=str(item.image.resolve()), gt_path=str(item.label.resolve())) for item in items]
    pd.DataFrame(rows).to_csv(out / "augmented" / "train_source.csv", index=False)
    write_yaml(out / "run.yaml", {"train": {"parameters": {}}})
    return out


def test_every_parameter_reaches_the_masks(sample, ready, other):
    everything = dict(
        checkpoint=[ready / "train" / "iter_1.pth", other[1]],
        sliding=True,
        flip=True,
        scales=[1.0, 0.7],
        blend="gaussian",
        views=2,
        norms=0.5,
        features=0.3,
        background=True,
        islands=2.0,
        batch=6,
    )
    masks = infer(sample, ready, **everything)
    first = {path.name: path.read_bytes() for path in masks.glob("*.png")}
    for name in first:
        label = image_files.read_label(masks / name)
        assert ((label == BACKGROUND) == camera(*SIZE).overlay.mask).all()
    noted = read_yaml(masks / "parameters.yaml")
    names = ("views", "norms", "features", "background", "islands", "blend")
    assert {name: noted[name] for name in names} == {name: everything[name] for name in names}
    assert len(noted["checkpoint"]) == 2 and len(noted["target"]) == 2
    # One image is done again after a stop, and comes out as it was.
    name = sorted(first)[1]
    (masks / name).unlink()
    infer(sample, ready, **everything)
    assert {path.name: path.read_bytes() for path in masks.glob("*.png")} == first
    with pytest.raises(InputError, match="views: 2 there, 3 now"):
        infer(sample, ready, **{**everything, "views": 3})


def test_what_is_off_is_not_noted(sample, ready):
    noted = read_yaml(infer(sample, ready) / "parameters.yaml")
    assert sorted(noted) == ["checkpoint", "data", "flip", "scales", "sliding"]


@pytest.mark.parametrize(
    "given, said",
    [
        (dict(blend="cubic"), "blend: 'cubic'"),
        (dict(batch=0), "batch: 0"),
        (dict(views=-1), "views: -1"),
        (dict(norms=1.5), "norms: 1.5"),
        (dict(features=-1), "features: -1"),
        (dict(islands=-1), "islands: -1"),
        (dict(checkpoint=[]), "empty list"),
        (dict(checkpoint=["gone.pth"]), r"gone\.pth: no such file"),
        (dict(scales=[1, 0]), "scales"),
    ],
)
def test_bad_parameters_are_refused_before_masks_are_deleted(sample, ready, given, said):
    mask = ready / "masks" / "TEST_0000.png"
    image_files.write_png(mask, np.zeros((2, 2), np.uint8))
    with pytest.raises(InputError, match=said):
        infer(sample, ready, overwrite=True, **given)
    assert mask.exists()


def test_views_and_background_need_a_known_camera(sample, ready):
    described = read_yaml(ready / "augmented" / "camera.yaml")
    write_yaml(ready / "augmented" / "camera.yaml", {**described, "target": None})
    with pytest.raises(InputError, match="lens is not known"):
        infer(sample, ready, views=3)
    (ready / "augmented" / "camera.yaml").unlink()
    for given in (dict(views=3), dict(background=True)):
        with pytest.raises(InputError, match=r"camera\.yaml does not exist.*Run 01_augment"):
            infer(sample, ready, **given)


def test_the_notebook_offers_every_parameter():
    cells = json.loads((Path(__file__).parents[2] / "notebooks" / "03_infer.ipynb").read_text())["cells"]
    offered = next("".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", []))
    named = {line.split(" = ")[0] for line in offered.splitlines()}
    assert named == set(inspect.signature(infer).parameters)
