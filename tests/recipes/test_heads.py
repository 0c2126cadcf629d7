"""The decode heads on a small backbone: gradients, ignored pixels, and answers that inference can average."""

import importlib.util
import sys
import types

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from torch.testing import assert_close

import lib.internimage  # noqa: F401  registers its classes
from lib import recipes
from lib.dataset.classes import CLASSES_WITH_BACKGROUND, IGNORE
from lib.internimage import mmcv_ops
from lib.recipes.config_file import write_config
from lib.training.config import build_config

COUNT = len(CLASSES_WITH_BACKGROUND)
mask2former = pytest.mark.skipif(
    importlib.util.find_spec("mmdet") is None, reason="mmdetection is not installed (make mask2former)"
)
NAMES = ["demo", "demo_segformer", pytest.param("demo_mask2former", marks=mask2former)]


def network(name: str, seed: int = 0):
    from mmseg.registry import MODELS

    if name == "demo_mask2former":
        import lib.recipes.mask2former  # noqa: F401
    init_default_scope("mmseg")
    torch.manual_seed(seed)
    model = MODELS.build(recipes.load(name).model)
    model.init_weights()
    return model


def batch(*labels):
    """As many random images, and the label maps as samples."""
    from mmseg.structures import SegDataSample

    samples = []
    for label in labels:
        size = tuple(label.shape)
        sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size))
        sample.gt_sem_seg = PixelData(data=label[None])
        samples.append(sample)
    generator = torch.Generator().manual_seed(1)
    return torch.randn(len(labels), 3, *labels[0].shape, generator=generator), samples


def loss_of(model, images, samples):
    losses = model.loss(images, samples)
    return sum(value for name, value in losses.items() if "loss" in name)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns(name):
    model = network(name).train()
    label = torch.arange(COUNT).repeat_interleave(10).repeat(64, 1)[:, :128]
    loss_of(model, *batch(label, label.flip(1))).backward()
    gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
    assert not [key for key, gradient in gradients.items() if gradient is None or not gradient.isfinite().all()]
    # In the backbone's start what leads to the offsets has no influence yet.
    moved = [bool(gradient.any()) for key, gradient in gradients.items() if "backbone" not in key]
    assert np.mean(moved) > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_unlabelled_pixels_are_ignored(name):
    """Labels that are taken away have no say any more, and an image without any label is borne."""
    model = network(name).eval()  # no dropout; running statistics
    full = torch.zeros(64, 128, dtype=torch.long)
    full[:, 64:] = 7
    half, none = full.clone(), torch.full_like(full, IGNORE)
    half[:, 64:] = IGNORE
    losses = []
    for label in (full, half):
        torch.manual_seed(0)  # of the points at which masks are compared
        losses.append(loss_of(model, *batch(label, none)))
    assert losses[0] != losses[1]
    losses[1].backward()
    assert losses[1].isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


@pytest.fixture(scope="module")
def masks():
    """A Mask2Former whose queries differ."""
    model = network("demo_mask2former").eval()
    with torch.no_grad():
        for parameter in model.decode_head.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def metas(height: int, width: int) -> list[dict]:
    return [dict(ori_shape=(height, width), img_shape=(height, width), pad_shape=(height, width), padding_size=[0] * 4)]


@mask2former
def test_masks_answer_with_logits_of_their_scores(masks):
    """The softmax of the answer is the class scores of the paper, divided by their sum."""
    image = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        classes, queries = (found[-1] for found in masks.decode_head(masks.extract_feat(image), [None]))
        answer = masks.inference(image, metas(64, 96))
    queries = torch.nn.functional.interpolate(queries, (64, 96), mode="bilinear", align_corners=False)
    scores = torch.einsum("nqc,nqhw->nchw", classes.softmax(2)[..., :-1], queries.sigmoid())
    assert answer.shape == (1, COUNT, 64, 96) and answer.dtype == torch.float32
    assert_close(answer.softmax(1), scores / scores.sum(1, keepdim=True))
    assert torch.equal(answer.argmax(1), scores.argmax(1))


@mask2former
def test_masks_are_found_in_windows_too(masks):
    image = torch.randn(1, 3, 64, 128)
    whole = masks.test_cfg
    masks.test_cfg = type(whole)(mode="slide", crop_size=(64, 64), stride=(64, 64))
    try:
        with torch.inference_mode():
            answer = masks.inference(image, metas(64, 128))
            halves = [masks.encode_decode(image[..., i : i + 64], metas(64, 64)) for i in (0, 64)]
    finally:
        masks.test_cfg = whole
    assert_close(answer, torch.cat(halves, 3))


@mask2former
def test_the_predictor_gives_probabilities(masks, tmp_path):
    from lib.prediction.options import TestTimeOptions
    from lib.prediction.predictor import Predictor

    cfg = build_config("demo_mask2former", tmp_path)
    write_config(cfg, tmp_path / "config.json")
    torch.save(masks.state_dict(), tmp_path / "weights.pth")
    image = np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)
    run = tmp_path / "config.json", tmp_path / "weights.pth"
    found = Predictor(*run, TestTimeOptions(flip=True)).probabilities(image)
    assert found.shape == (COUNT, 90, 160)
    assert_close(found.sum(0), torch.ones(90, 160), atol=1e-5, rtol=0)
    windows = Predictor(*run, TestTimeOptions(sliding=True)).probabilities(image)
    assert_close(windows.sum(0), torch.ones(90, 160), atol=1e-5, rtol=0)


@mask2former
def test_attention_without_compiled_operators_is_the_one_in_pytorch():
    from mmcv.ops import multi_scale_deform_attn

    import lib.recipes.mask2former  # noqa: F401

    if mmcv_ops.compiled():
        assert multi_scale_deform_attn.ext_module.__file__
    else:
        assert not multi_scale_deform_attn.IS_CUDA_AVAILABLE


def test_operators_that_are_missing_say_how_to_build_them():
    from mmcv.ops import nms

    if mmcv_ops.compiled():
        pytest.skip("mmcv's operators are compiled here")
    with pytest.raises(NotImplementedError, match="nms is not compiled; `make ops`"):
        nms(torch.zeros(1, 4), torch.zeros(1), 0.5)


def test_compiled_operators_are_left_alone(monkeypatch):
    compiled = types.ModuleType("mmcv._ext")
    monkeypatch.setitem(sys.modules, "mmcv._ext", compiled)
    mmcv_ops.install_stubs()
    assert mmcv_ops.compiled() and sys.modules["mmcv._ext"] is compiled
    monkeypatch.delitem(sys.modules, "mmcv._ext")
    monkeypatch.setattr(mmcv_ops.importlib.util, "find_spec", lambda name: object())  # there, and not imported yet
    mmcv_ops.install_stubs()
    assert mmcv_ops.compiled() and "mmcv._ext" not in sys.modules
