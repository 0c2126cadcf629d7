"""What is done to predictions, or to the network, for the target alone: views, background, islands, statistics."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from lib.dataset import image_files
from lib.dataset.classes import BACKGROUND, CAR, POLE, ROAD, SKY
from lib.errors import InputError
from lib.prediction import test_time
from lib.prediction.network import Network
from lib.stages.infer import Predictor
from tests.builders import IMAGE_SIZE as SIZE
from tests.builders import KINDS, camera


def test_what_a_view_saw_comes_back_to_where_it_was():
    """Probabilities that tell the place in the lens's image are read by the views and bent back."""
    target = camera()
    y, x = np.uint8(np.mgrid[: target.size[1], : target.size[0]] // 2)
    places = cv2.merge([x, y, np.full_like(x, 255)])
    total, weight = np.zeros((180, 320, 3)), np.zeros((180, 320))
    for view in test_time.rectified_views(target.lens, 3, test_time.street(target)):
        seen = torch.from_numpy(view.there.image(places).astype(np.float32)).permute(2, 0, 1)[None]
        back = view.to_lens_image(seen)[0].permute(1, 2, 0).numpy()
        sure = view.weight > 0.1
        assert np.abs(back[sure] / view.weight[sure, None] - places[sure]).max() < 0.8
        total, weight = total + back, weight + view.weight
    street = ~target.overlay.mask
    assert (weight[street] > 0).mean() > 0.7, "the views cover most of the street"
    assert (weight[:, [5, -6]] > 0).any(axis=0).all(), "from side to side"
    assert total[weight == 0].max() == 0


def test_views_are_averaged_where_they_reach(run, images):
    target = camera(*SIZE)
    plain, voted = Predictor(*run), Predictor(*run, views=3, target=target)
    direct, mixed = plain.probabilities(images[0]), voted.probabilities(images[0])
    views = test_time.rectified_views(target.lens, 3, test_time.street(target))
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


def test_background_is_where_the_mask_says_and_nowhere_else():
    probabilities = torch.zeros(KINDS, 4, 6)
    probabilities[BACKGROUND], probabilities[CAR] = 0.6, 0.3
    mask = np.zeros((4, 6), bool)
    mask[2:] = True
    assert (test_time.decide(probabilities) == BACKGROUND).all()
    label = test_time.decide(probabilities, mask)
    assert label.dtype == np.uint8 and (label[2:] == BACKGROUND).all() and (label[:2] == CAR).all()


def test_each_image_has_the_background_that_it_shows(run, images):
    """Of two hoods, the one that is in the picture; also in a picture of another size."""
    low, high = camera(*SIZE).overlay, camera(*SIZE).overlay
    high = replace(high, mask=np.roll(high.mask, -30, axis=0), image=high.image + np.uint8(200))
    target = replace(camera(*SIZE), overlay=low, more_overlays=(high,), overlay_shares=(0.5, 0.5))
    predictor, pictures = Predictor(*run, background=True, target=target), []
    for image, own in ((images[0], high), (images[1], low)):
        picture = image.copy()
        picture[own.mask] = own.image[own.mask]
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
    clean = test_time.remove_islands(label)
    expected = label.copy()
    expected[50:53, 60:63], expected[308:310, 110:112] = SKY, CAR
    expected[199:202, 300:303] = ROAD
    assert (clean == expected).all()
    assert (test_time.remove_islands(label, 1e-3) == label).all()
    assert (test_time.remove_islands(label, 10)[80:83, 60:63] == SKY).all()


def test_background_takes_an_island_only_where_nothing_else_does():
    label = np.full((400, 500), BACKGROUND, np.uint8)
    label[100:102, 100:102] = CAR
    label[:50] = ROAD
    label[49:53, 200] = CAR
    clean = test_time.remove_islands(label)
    assert (clean[100:102, 100:102] == BACKGROUND).all() and (clean[49:53, 200] == ROAD).all()


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
    assert test_time.adapt_norms(model, forward, 0.25) == 2
    assert torch.allclose(model[1].running_mean, 0.75 * before[0] + 0.25 * seen.mean(1), atol=1e-4)
    assert torch.allclose(model[1].running_var, 0.75 * before[1] + 0.25 * seen.var(1, correction=0), rtol=1e-4)
    test_time.adapt_norms(model, forward, 1.0)
    with torch.inference_mode():  # then what leaves the last one is normalised over these images
        out = torch.cat([model(batch).transpose(0, 1).flatten(1) for batch in batches], 1)
    assert torch.allclose(out.mean(1), torch.zeros(4), atol=1e-3)
    assert torch.allclose(out.std(1), torch.ones(4), atol=1e-2)
    with pytest.raises(InputError, match="no batch norm"):
        test_time.adapt_norms(nn.Conv2d(3, 3, 1), lambda: None, 0.5)


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
    test_time.align_features(model, lambda: moments(source), lambda: moments(target), 0.5)
    for half, first, last in zip(moments(target), before, wanted, strict=True):
        assert torch.allclose(half, (first + last) / 2, rtol=1e-2, atol=1e-2)
    model.backbone._forward_hooks.clear()
    test_time.align_features(model, lambda: moments(source), lambda: moments(target), 1.0)
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
