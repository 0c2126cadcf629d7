"""Several networks, images and views together."""

import weakref
from dataclasses import replace

import cv2
import numpy as np
import torch

from lib.dataset import image_files, layout
from lib.dataset.classes import BACKGROUND, CAR
from lib.prediction.options import TestTimeOptions
from lib.prediction.predictor import Predictor
from lib.prediction.rectified_views import rectified_views, visible_angles
from tests.builders import IMAGE_SIZE, KINDS, camera


def write(folder, images):
    items = [layout.Item(str(i), folder / f"{i}.png") for i in range(len(images))]
    for item, image in zip(items, images, strict=True):
        image_files.write_png(item.image, image)
    return items


def test_several_checkpoints_are_averaged(run, other, images):
    """Also one of another run, with its own image size."""
    first, second = (Predictor(*one).probabilities(images[0]) for one in (run, other))
    both = Predictor(*run, more=[other]).probabilities(images[0])
    assert torch.allclose(both, (first + second) / 2, atol=1e-6) and not torch.allclose(both, first, atol=1e-2)


def test_images_in_a_batch_are_labelled_as_alone(run, images, tmp_path, monkeypatch):
    options = dict(sliding=True, flip=True, scales=(1.0, 0.8), window_blend="gaussian")
    alone, together = (Predictor(*run, TestTimeOptions(crops_per_batch=batch, **options)) for batch in (1, 64))
    for i, found in enumerate(together._probabilities(images)):
        assert torch.allclose(found, alone.probabilities(images[i]), atol=1e-3)
    items, counts, labels = write(tmp_path, images), [], Predictor.labels
    monkeypatch.setattr(Predictor, "labels", lambda self, batch: counts.append(len(batch)) or labels(self, batch))
    assert len(list(together.label_items(items))) == len(list(alone.label_items(items))) == len(images)
    assert counts[0] > 1 and counts[-len(images) :] == [1] * len(images)


def test_images_of_several_sizes_come_back_in_order(run, images, tmp_path):
    items = write(tmp_path, [images[0], images[1], images[0][:60], images[2]])
    alone = [Predictor(*run)(image_files.read_image(item.image)) for item in items]
    found = list(Predictor(*run, TestTimeOptions(crops_per_batch=8)).label_items(items))
    assert [item for item, _, _ in found] == items
    for (_, image, label), expected in zip(found, alone, strict=True):
        assert label.shape == image.shape[:2] and (label == expected).mean() > 0.999


def test_memory_does_not_grow_with_windows_or_networks(run, images):
    """No more crops at once than asked for, and one network's probabilities besides the sum."""
    predictor = Predictor(*run, TestTimeOptions(sliding=True, flip=True, crops_per_batch=4), more=[run] * 3)
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


def test_views_are_averaged_where_they_reach(run, images):
    target = camera(*IMAGE_SIZE)
    plain, voted = Predictor(*run), Predictor(*run, TestTimeOptions(rectified_views=3), target=target)
    direct, mixed = plain.probabilities(images[0]), voted.probabilities(images[0])
    views = rectified_views(target.lens, 3, visible_angles(target.lens, target.overlay.mask))
    reach = torch.from_numpy(sum(view.weight for view in views) > 0)
    assert torch.allclose(mixed.sum(0), torch.ones(IMAGE_SIZE[::-1]), atol=1e-4)
    assert torch.equal(mixed[:, ~reach], direct[:, ~reach]) and (~reach).any()
    assert not torch.allclose(mixed[:, reach], direct[:, reach], atol=1e-3)
    sure = torch.zeros(1, KINDS, 1, 1)
    sure[:, CAR] = 1
    for one in voted.networks:  # a network that is sure stays so, from however many views
        one.probabilities = lambda images, reference=None: sure.expand(len(images), -1, *images[0].shape[:2]).clone()
    assert torch.allclose(voted.probabilities(images[0])[CAR], torch.ones(IMAGE_SIZE[::-1]), atol=1e-5)


def test_each_image_gets_the_overlay_that_it_shows(run, images):
    """Of two hoods, the one that is in the picture; also in a picture of another size."""
    low, high = camera(*IMAGE_SIZE).overlay, camera(*IMAGE_SIZE).overlay
    high = replace(high, mask=np.roll(high.mask, -30, axis=0), image=high.image + np.uint8(200))
    target = replace(camera(*IMAGE_SIZE), overlay=low, more_overlays=(high,), overlay_shares=(0.5, 0.5))
    predictor, pictures = Predictor(*run, TestTimeOptions(apply_overlay=True), target=target), []
    for image, own in ((images[0], high), (images[1], low)):
        picture = image.copy()
        picture[own.mask] = own.image[own.mask]
        pictures.append(picture)
    labels = predictor.labels(pictures)
    assert ((labels[0] == BACKGROUND) == high.mask).all() and ((labels[1] == BACKGROUND) == low.mask).all()
    halved = predictor(cv2.resize(pictures[0], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    assert ((halved == BACKGROUND) == high.mask[::2, ::2]).mean() > 0.98


def test_adapted_networks_are_the_same_each_time(run, images, tmp_path):
    frames = [item.image for item in write(tmp_path, images)]
    plain = Predictor(*run).probabilities(images[0])
    for option in ("norm_adaptation", "feature_alignment"):
        options, known = TestTimeOptions(**{option: 0.5}), dict(frames=frames, source=frames[:1])
        adapted = [Predictor(*run, options, **known).probabilities(images[0]) for _ in range(2)]
        assert torch.equal(*adapted) and not torch.allclose(plain, adapted[0], atol=1e-3)
