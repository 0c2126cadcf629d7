"""Self-training: what the teacher says, what the student is shown, and whole runs that stop and go on."""

import importlib.util

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Generator

import lib.internimage  # noqa: F401  registers its classes
from lib import recipes
from lib.dataset.classes import BACKGROUND, IGNORE, POLE, ROAD, SKY
from lib.training.config import build_config
from lib.training.hardware import Hardware
from lib.training.self_training import Settings, augmentations, pseudo_labels
from lib.training.self_training.pseudo_labels import ClassShares


def gen(seed=0):
    return Generator().manual_seed(seed)


def model(head=None, recipe="demo", warmup_iters=0, alpha=0.9, **settings):
    """A tiny network in training of itself, as a run would build it."""
    from mmseg.registry import MODELS

    import lib.training.self_training.teacher  # noqa: F401

    init_default_scope("mmseg")
    cfg = build_config(recipe, "nowhere", hardware=Hardware()).model
    if head:
        cfg.decode_head, cfg.auxiliary_head = head, None
    torch.manual_seed(0)
    given = {"mix": 0.5, "mask_ratio": 0.5, "colour": 0.4} | settings
    wrapped = dict(type="SelfTraining", segmentor=cfg, seed=0, alpha=alpha, warmup_iters=warmup_iters)
    return MODELS.build(wrapped | dict(settings=Settings(**given).identity())).train()


def batch(pairs=2, size=(64, 96)):
    """Alternating source and target crops; the target's lowest rows are the camera's surroundings."""
    rng = np.random.default_rng(0)
    samples = []
    for i in range(2 * pairs):
        label = torch.from_numpy(rng.integers(0, BACKGROUND, (1, size[0] // 8, size[1] // 8)))
        label = label.repeat_interleave(8, 1).repeat_interleave(8, 2)
        if i % 2:
            label[:] = IGNORE
            label[:, -8:] = BACKGROUND
        samples.append(SegDataSample(metainfo=dict(img_shape=size, pad_shape=size), gt_sem_seg=PixelData(data=label)))
    return torch.from_numpy(rng.standard_normal((2 * pairs, 3, *size), dtype=np.float32)), samples


# The teacher


def test_the_teacher_follows_its_student():
    net = model(alpha=0.9)
    name, student = next(iter(net.student.named_parameters()))
    expected = None
    for step in range(20):
        with torch.no_grad():
            student.add_(torch.randn(student.shape, generator=gen(step)))
        net.teacher.update_parameters(net.student)
        keep = min(1 - 1 / (step + 1), 0.9)
        expected = student.detach() * (1 - keep) + (expected * keep if step else 0)
        assert torch.allclose(net.teacher.module.get_parameter(name), expected, atol=1e-5)
    assert not net.teacher.module.training and net.student.training
    assert not any(p.requires_grad for p in net.teacher.parameters())


def test_only_the_student_is_optimised():
    from mmengine.optim import build_optim_wrapper

    net, cfg = model(), recipes.load("demo")
    wrapped = dict(cfg.optim_wrapper)
    own = {name: wrapped.pop(name) for name in ("constructor", "paramwise_cfg")}
    wrapped.update(constructor="StudentOptimWrapperConstructor", paramwise_cfg=own)
    groups = build_optim_wrapper(net, wrapped).optimizer.param_groups
    plain = build_optim_wrapper(net.student, cfg.optim_wrapper).optimizer.param_groups
    assert [g["param_names"] for g in groups] == [g["param_names"] for g in plain]
    assert {id(p) for g in groups for p in g["params"]} == {id(p) for p in net.student.parameters()}


# Its labels


def test_pseudo_labels_are_weighed_by_the_share_of_sure_pixels():
    sure, unsure, hood = torch.full((3, 13), 0.1 / 12).unbind()
    sure[SKY], unsure[POLE], hood[BACKGROUND] = 0.9, 0.5, 0.9
    hood[ROAD] = 0.05
    probabilities = torch.stack([sure, unsure, hood, sure]).T.reshape(1, 13, 2, 2)
    known = torch.tensor([[[ROAD, ROAD], [ROAD, BACKGROUND]]])
    label, share = pseudo_labels.label(probabilities, known, threshold=0.8)
    # Background is where it is known to be, and is neither guessed nor counted.
    assert label.tolist() == [[[SKY, POLE], [ROAD, BACKGROUND]]]
    assert share.item() == pytest.approx(1 / 3)
    label, share = pseudo_labels.label(probabilities, torch.full_like(known, IGNORE), 0.8)
    assert (label == IGNORE).all() and share.item() == 0


def test_the_targets_loss_is_weighed_by_it():
    inputs, samples = batch()
    losses = [model(threshold=t, weight=w).forward(inputs, samples, "loss") for t, w in ((0, 1), (0, 0.5), (1, 1))]
    whole, half, none = (loss["target.decode.loss_ce"].item() for loss in losses)
    assert [loss["confident"].item() for loss in losses] == [1, 1, 0]
    assert whole > 0 and half == pytest.approx(whole / 2) and none == 0
    assert all(loss["source.decode.loss_ce"] == losses[0]["source.decode.loss_ce"] for loss in losses)


def test_at_first_only_the_source_teaches():
    net = model(warmup_iters=2, threshold=0)
    inputs, samples = batch()
    for step in range(3):
        assert ("target" in net(inputs, samples, "loss")) == (step == 2)
        net.teacher.update_parameters(net.student)


HEADS = {
    "UPerHead": None,
    "FCNHead": dict(in_channels=128, in_index=3, num_convs=1, concat_input=False),
    "SegformerHead": dict(in_channels=[16, 32, 64, 128], in_index=[0, 1, 2, 3]),
}


@pytest.mark.parametrize("head", HEADS)
def test_any_head_learns_from_both(head):
    shared = dict(type=head, channels=16, num_classes=13, align_corners=False, norm_cfg=dict(type="BN"))
    net = model(HEADS[head] and HEADS[head] | shared, threshold=0)
    inputs, samples = batch()
    loss, logged = net.parse_losses(net(inputs, samples, "loss"))
    assert loss.item() == pytest.approx(logged["source"].item() + logged["target"].item(), rel=1e-5)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in net.student.parameters() if p.grad is not None)
    assert net.student.backbone.patch_embed.conv1.weight.grad.abs().sum() > 0


def test_heads_that_classify_masks_give_probabilities_too():
    from lib.training.self_training.teacher import probabilities

    class Mask2FormerHead:
        """By its name one of mmseg's own."""

    class Masks(torch.nn.Module):
        decode_head = Mask2FormerHead()

        def encode_decode(self, images, metas):
            return torch.tensor([0.3, 1.5, 0.2])[None, :, None, None] * images[:, :1]

    images = torch.cat([torch.ones(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.1)])
    found = probabilities(Masks(), images)[:, :, 0, 0]
    assert torch.allclose(found, torch.tensor([[0.15, 0.75, 0.1], [0.03, 0.15, 0.02]]))


@pytest.mark.skipif(importlib.util.find_spec("mmdet") is None, reason="mmdetection is not installed")
def test_mask2former_is_sure_of_some_pixels_and_learns_from_them():

    import lib.recipes.mask2former  # noqa: F401

    net = model(recipe="demo_mask2former", threshold=0.0)
    inputs, samples = batch(pairs=1)
    losses = net(inputs, samples, "loss")
    assert losses["confident"] == 1 and losses["target"] > 0
    net.parse_losses(losses)[0].backward()
    assert net.student.backbone.patch_embed.conv1.weight.grad.abs().sum() > 0


def test_classes_are_named_as_often_as_the_source_has_them():
    shares = ClassShares()
    open_ = torch.ones(1, 40, 40, dtype=torch.bool)
    open_[:, 30:] = False
    for step in range(60):
        # Sky is a fifth of the source; the teacher is never sure enough of it to name it, but nearly in some places.
        truth = torch.where(torch.rand(1, 40, 40, generator=gen(step)) < 0.2, SKY, ROAD)
        guess = torch.zeros(1, 13, 40, 40)
        guess[:, SKY] = 0.35 * torch.rand(1, 40, 40, generator=gen(1000 + step))
        guess[:, BACKGROUND] = 0.2
        guess[:, ROAD] = 0.8 - guess[:, SKY]
        assert (guess.argmax(1) == ROAD).all()
        weighed = shares(guess, open_, truth)
    assert torch.allclose(weighed.sum(1), torch.ones(1, 40, 40))
    named = weighed[:, :BACKGROUND].argmax(1)[open_]
    assert (named == SKY).float().mean().item() == pytest.approx(0.2, abs=0.05)
    sky, was = weighed[0, SKY][open_[0]], guess[0, SKY][open_[0]]
    assert torch.equal(sky.argsort(), was.argsort())  # the surest become Sky


# The student's views


def test_mixing_moves_labels_and_images_together():
    truth = torch.from_numpy(np.random.default_rng(1).integers(0, 14, (3, 20, 30)))
    truth[truth == 13] = IGNORE
    guessed = torch.from_numpy(np.random.default_rng(2).integers(0, BACKGROUND, (3, 20, 30)))
    known = torch.full_like(guessed, ROAD)
    known[:, -5:] = guessed[:, -5:] = BACKGROUND

    def image(label, offset):  # its pixels tell whose they are and of which class
        return (label + offset)[:, None].repeat(1, 3, 1, 1).float()

    mixed, label = augmentations.mix_classes((image(truth, 1000), truth), (image(guessed, 0), guessed), known, gen())
    pasted = mixed[:, 0] >= 1000
    assert torch.equal(mixed, image(label, 0) + 1000 * pasted[:, None])
    for own, here, bent in zip(label, pasted, truth, strict=True):
        classes = set(own[here].tolist())
        assert len(classes) == 6 and not classes & {IGNORE, BACKGROUND}
        assert torch.equal(here[:-5], torch.isin(bent, torch.tensor(sorted(classes)))[:-5])
        assert not here[-5:].any() and (own[-5:] == BACKGROUND).all()
    assert len({tuple(sorted(set(own[here].tolist()))) for own, here in zip(label, pasted, strict=True)}) > 1


def test_other_colours_keep_the_picture():
    mean, std = torch.tensor([123.0, 116, 103])[:, None, None], torch.tensor([58.0, 57, 57])[:, None, None]
    colours = torch.from_numpy(np.random.default_rng(0).integers(60, 190, (8, 3, 6, 8))).float()
    colours = colours.repeat_interleave(8, 2).repeat_interleave(8, 3)
    images = (colours - mean) / std
    centres = (..., slice(3, None, 8), slice(3, None, 8))  # which no blur of this size reaches
    assert torch.allclose(
        augmentations.jitter(images, mean, std, gen(), strength=0.0)[centres], images[centres], atol=0.05
    )
    changed = augmentations.jitter(images, mean, std, gen(3), strength=0.4)
    back = changed * std + mean
    assert (back.min() >= -1e-3) and (back.max() <= 255.001)
    different = (changed - images).abs().mean((1, 2, 3))
    assert (different > 0.02).all() and different.std() > 0.02
    for before, after in zip(images, changed, strict=True):
        assert np.corrcoef(before.mean(0).ravel(), after.mean(0).ravel())[0, 1] > 0.8


def test_patches_hide_about_the_share_asked_for():
    away = augmentations.patch_mask((50, 96, 160), 0.7, 32, gen())
    assert away.float().mean().item() == pytest.approx(0.7, abs=0.05)
    blocks = away.reshape(50, 3, 32, 5, 32).float().mean((2, 4))
    assert set(blocks.unique().tolist()) == {0, 1}
