"""Inference part by part: windows, the lighter network, averages, and what is done at test time."""

import inspect
import json
import weakref
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lib import dataset, image_files, recipes
from lib.classes import BACKGROUND, CAR, CLASSES_WITH_BACKGROUND, POLE, ROAD, SKY
from lib.fisheye.background import Background
from lib.fisheye.bend import Target
from lib.fisheye.cameras import Fisheye
from lib.inference import Predictor, infer
from lib.prediction import testtime, windows
from lib.prediction.network import Network
from lib.runs import InputError, read_yaml, write_yaml

SIZE = (192, 108)
KINDS = len(CLASSES_WITH_BACKGROUND)


def random_run(folder: Path, seed: int, scale=SIZE) -> tuple[Path, Path]:
    """Config and weights of an untrained demo network whose batch norms are not the identity."""
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    import lib.internimage  # noqa: F401 registers the backbone

    cfg = recipes.load("demo")
    cfg.scale, cfg.crop_size, cfg.amp = scale, (64, 96), False
    cfg.custom_imports = dict(imports=["lib.internimage"], allow_failed_imports=False)
    init_default_scope("mmseg")
    torch.manual_seed(seed)
    model = MODELS.build(cfg.model)
    for name, values in model.named_buffers():
        if name.endswith("running_var"):
            values.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            values.normal_(0, 0.1)
    with torch.no_grad():
        model.decode_head.conv_seg.weight.mul_(100)  # classes that differ clearly
    folder.mkdir(parents=True, exist_ok=True)
    cfg.dump(folder / "config.py")
    torch.save(model.state_dict(), folder / "iter_1.pth")
    return folder / "config.py", folder / "iter_1.pth"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return random_run(tmp_path_factory.mktemp("run") / "train", 0)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return random_run(tmp_path_factory.mktemp("other") / "train", 1, (96, 54))


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [cv2.resize(rng.integers(0, 256, (9, 16, 3), dtype=np.uint8), SIZE) for _ in range(3)]


def camera(width=320, height=180) -> Target:
    """A fisheye of about 150 degrees across that sees its hood in the lowest rows."""
    mask = np.zeros((height, width), bool)
    mask[-height // 6 :] = True
    plain = Background(mask, np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.float32))
    lens = Fisheye.from_fov((width, height), 2.6, k=(-0.02, 0.0, 0.0, 0.0))
    return Target(plain, lens, None, np.zeros((1, 2, 3), np.float32), np.zeros((1, 72, 128, 3), np.uint8))


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
        items.append(dataset.Item(str(i), tmp_path / f"{i}.png"))
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


# Rectified views


def test_what_a_view_saw_comes_back_to_where_it_was():
    """Probabilities that tell the place in the lens's image are read by the views and bent back."""
    target = camera()
    y, x = np.uint8(np.mgrid[: target.size[1], : target.size[0]] // 2)
    places = cv2.merge([x, y, np.full_like(x, 255)])
    total, weight = np.zeros((180, 320, 3)), np.zeros((180, 320))
    for view in testtime.rectified_views(target.lens, 3, testtime.street(target)):
        seen = torch.from_numpy(view.there.image(places).astype(np.float32)).permute(2, 0, 1)[None]
        back = view.bent_back(seen)[0].permute(1, 2, 0).numpy()
        sure = view.weight > 0.1
        assert np.abs(back[sure] / view.weight[sure, None] - places[sure]).max() < 0.8
        total, weight = total + back, weight + view.weight
    street = ~target.surroundings.mask
    assert (weight[street] > 0).mean() > 0.7, "the views cover most of the street"
    assert (weight[:, [5, -6]] > 0).any(axis=0).all(), "from side to side"
    assert total[weight == 0].max() == 0


def test_views_are_averaged_where_they_reach(run, images):
    target = camera(*SIZE)
    plain, voted = Predictor(*run), Predictor(*run, views=3, target=target)
    direct, mixed = plain.probabilities(images[0]), voted.probabilities(images[0])
    views = testtime.rectified_views(target.lens, 3, testtime.street(target))
    reach = torch.from_numpy(sum(view.weight for view in views) > 0)
    assert torch.allclose(mixed.sum(0), torch.ones(SIZE[::-1]), atol=1e-4)
    assert torch.equal(mixed[:, ~reach], direct[:, ~reach]) and (~reach).any()
    assert not torch.allclose(mixed[:, reach], direct[:, reach], atol=1e-3)
    sure = torch.zeros(1, KINDS, 1, 1)
    sure[:, CAR] = 1
    for one in voted.networks:  # a network that is sure stays so, from however many views
        one.probabilities = lambda images, like=None: sure.expand(len(images), -1, *images[0].shape[:2]).clone()
    assert torch.allclose(voted.probabilities(images[0])[CAR], torch.ones(SIZE[::-1]), atol=1e-5)


def test_a_view_is_enlarged_as_much_as_the_whole_image(run, images):
    ours, seen = Network(*run), []
    inner = ours._blended
    ours._blended = lambda inputs: seen.append(tuple(inputs.shape[2:])) or inner(inputs)
    ours.probabilities([images[0][:50, :80]], like=(216, 384))
    assert seen == [(25, 40)]


# Background, islands


def test_background_is_where_the_mask_says_and_nowhere_else():
    probabilities = torch.zeros(KINDS, 4, 6)
    probabilities[BACKGROUND], probabilities[CAR] = 0.6, 0.3
    mask = np.zeros((4, 6), bool)
    mask[2:] = True
    assert (testtime.decide(probabilities) == BACKGROUND).all()
    label = testtime.decide(probabilities, mask)
    assert label.dtype == np.uint8 and (label[2:] == BACKGROUND).all() and (label[:2] == CAR).all()


def test_each_image_has_the_background_that_it_shows(run, images):
    """Of two hoods, the one that is in the picture; also in a picture of another size."""
    low, high = camera(*SIZE).surroundings, camera(*SIZE).surroundings
    high = replace(high, mask=np.roll(high.mask, -30, axis=0), plate=high.plate + np.uint8(200))
    target = replace(camera(*SIZE), surroundings=low, others=(high,), shares=(0.5, 0.5))
    predictor, pictures = Predictor(*run, background=True, target=target), []
    for image, own in ((images[0], high), (images[1], low)):
        picture = image.copy()
        picture[own.mask] = own.plate[own.mask]
        pictures.append(picture)
    labels = predictor.labels(pictures)
    assert ((labels[0] == BACKGROUND) == high.mask).all() and ((labels[1] == BACKGROUND) == low.mask).all()
    halved = predictor(cv2.resize(pictures[0], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    assert ((halved == BACKGROUND) == high.mask[::2, ::2]).mean() > 0.98


def test_small_islands_take_their_surroundings_class():
    label = np.full((400, 500), SKY, np.uint8)
    label[200:] = ROAD
    label[50:53, 60:63] = CAR  # 9 pixels: too few for a car (10 here), enough for a pole (6)
    label[80:83, 60:63] = POLE
    label[300:320, 100:130] = CAR
    label[308:310, 110:112] = POLE  # on the car
    label[199:202, 300:303] = CAR  # across the horizon, mostly below it
    clean = testtime.remove_islands(label)
    expected = label.copy()
    expected[50:53, 60:63], expected[308:310, 110:112] = SKY, CAR
    expected[199:202, 300:303] = ROAD
    assert (clean == expected).all()
    assert (testtime.remove_islands(label, 1e-3) == label).all()
    assert (testtime.remove_islands(label, 10)[80:83, 60:63] == SKY).all()


def test_background_takes_an_island_only_where_nothing_else_does():
    label = np.full((400, 500), BACKGROUND, np.uint8)
    label[100:102, 100:102] = CAR
    label[:50] = ROAD
    label[49:53, 200] = CAR
    clean = testtime.remove_islands(label)
    assert (clean[100:102, 100:102] == BACKGROUND).all() and (clean[49:53, 200] == ROAD).all()


# Statistics inside the network


def test_batch_norms_move_to_the_statistics_of_other_images():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4)
    model = nn.Sequential(*layers).eval()
    batches = [torch.randn(2, 3, 20, 20) * 3 + 1, torch.randn(1, 3, 30, 10) - 2]
    before = model[1].running_mean.clone(), model[1].running_var.clone()

    @torch.inference_mode()
    def forward():
        for batch in batches:
            model(batch)

    with torch.inference_mode():
        seen = torch.cat([model[0](batch).transpose(0, 1).flatten(1) for batch in batches], 1)
    assert testtime.adapt_norms(model, forward, 0.25) == 2
    assert torch.allclose(model[1].running_mean, 0.75 * before[0] + 0.25 * seen.mean(1), atol=1e-4)
    assert torch.allclose(model[1].running_var, 0.75 * before[1] + 0.25 * seen.var(1, correction=0), rtol=1e-4)
    testtime.adapt_norms(model, forward, 1.0)
    with torch.inference_mode():  # then what leaves the last one is normalised over these images
        out = torch.cat([model(batch).transpose(0, 1).flatten(1) for batch in batches], 1)
    assert torch.allclose(out.mean(1), torch.zeros(4), atol=1e-3)
    assert torch.allclose(out.std(1), torch.ones(4), atol=1e-2)
    with pytest.raises(InputError, match="no batch norm"):
        testtime.adapt_norms(nn.Conv2d(3, 3, 1), lambda: None, 0.5)


def test_aligned_maps_of_the_target_have_the_sources_mean_and_deviation():
    torch.manual_seed(0)

    class Backbone(nn.Module):
        def forward(self, x):
            return x, x[:, :2, ::2] ** 2

    model = nn.Module()
    model.backbone = Backbone()
    source, target = [torch.randn(2, 3, 20, 30) for _ in range(2)], [torch.randn(1, 3, 20, 30) * 2 + 3]

    def moments(batches):
        levels = zip(*map(model.backbone, batches), strict=True)
        maps = [torch.cat([m.transpose(0, 1).flatten(1) for m in level], 1) for level in levels]
        return [value for level in maps for value in (level.mean(1), level.std(1))]

    wanted, before = moments(source), moments(target)
    testtime.align_features(model, lambda: moments(source), lambda: moments(target), 0.5)
    for half, first, last in zip(moments(target), before, wanted, strict=True):
        assert torch.allclose(half, (first + last) / 2, rtol=1e-2, atol=1e-2)
    model.backbone._forward_hooks.clear()
    testtime.align_features(model, lambda: moments(source), lambda: moments(target), 1.0)
    assert all(torch.allclose(*pair, rtol=1e-2, atol=1e-2) for pair in zip(moments(target), wanted, strict=True))


def test_adapted_networks_are_the_same_each_time(run, images, tmp_path):
    frames = []
    for i, image in enumerate(images):
        image_files.write_png(tmp_path / f"{i}.png", image)
        frames.append(tmp_path / f"{i}.png")
    plain = Predictor(*run).probabilities(images[0])
    for given in (dict(norms=0.5), dict(features=0.5, source=frames[:1])):
        adapted = [Predictor(*run, frames=frames, **given).probabilities(images[0]) for _ in range(2)]
        assert torch.equal(*adapted) and not torch.allclose(plain, adapted[0], atol=1e-3)


# The stage


@pytest.fixture
def ready(sample, tmp_path):
    """A run folder as stages 01 and 02 leave it."""
    out = tmp_path / "out"
    random_run(out / "train", 0)
    camera(*SIZE).write(out / "augmented")
    items = dataset.read_split(sample, "train_source")
    rows = [dict(id=item.id, img_path=str(item.image.resolve()), gt_path=str(item.label.resolve())) for item in items]
    pd.DataFrame(rows).to_csv(out / "augmented" / "train_source.csv", index=False)
    write_yaml(out / "run.yaml", {"train": {"parameters": {}}})
    return out


def test_every_parameter_reaches_the_masks(sample, ready, other):
    everything = dict(
        checkpoint=[ready / "train" / "iter_1.pth", other[1]], sliding=True, flip=True, scales=[1.0, 0.7],
        blend="gaussian", views=2, norms=0.5, features=0.3, background=True, islands=2.0, batch=6,
    )  # fmt: skip
    masks = infer(sample, ready, **everything)
    first = {path.name: path.read_bytes() for path in masks.glob("*.png")}
    for name in first:
        label = image_files.read_label(masks / name)
        assert ((label == BACKGROUND) == camera(*SIZE).surroundings.mask).all()
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
        (dict(blend="cubic"), "blend: 'cubic'"), (dict(batch=0), "batch: 0"), (dict(views=-1), "views: -1"),
        (dict(norms=1.5), "norms: 1.5"), (dict(features=-1), "features: -1"),
        (dict(islands=-1), "islands: -1"), (dict(checkpoint=[]), "empty list"),
        (dict(checkpoint=["gone.pth"]), r"gone\.pth: no such file"), (dict(scales=[1, 0]), "scales"),
    ],
)  # fmt: skip
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
    cells = json.loads((Path(__file__).parents[1] / "notebooks" / "03_infer.ipynb").read_text())["cells"]
    offered = next("".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", []))
    named = {line.split(" = ")[0] for line in offered.splitlines()}
    assert named == set(inspect.signature(infer).parameters)
