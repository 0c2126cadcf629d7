"""Windows over an image: weights, and their blend."""

from typing import get_args

import numpy as np
import pytest
import torch

from lib.prediction import windows
from lib.prediction.network import Network
from lib.prediction.options import TestTimeOptions
from tests.builders import KINDS


def test_a_windows_weight_falls_to_its_border():
    for blend in ("triangular", "gaussian"):
        weight = windows.weights(blend, (21, 41))
        assert weight.argmax() == weight.size // 2 and weight.min() > 0
        assert (np.diff(weight[10, :21]) >= 0).all() and weight[10, 0] < 0.1 * weight[10, 20]
        assert np.allclose(weight, weight[::-1, ::-1])
    assert (windows.weights("constant", (3, 4)) == 1).all()


@pytest.mark.parametrize("blend", get_args(windows.Blend))
@pytest.mark.parametrize("size", [(64, 96), (108, 192), (50, 300)])
def test_windows_of_a_constant_blend_to_it(run, blend, size):
    predictor = Network(*run, TestTimeOptions(sliding=True, window_blend=blend, crops_per_batch=5))
    value = torch.linspace(-3, 3, KINDS)[:, None, None]
    predictor._logits = lambda crops: value.expand(len(crops), -1, *crops.shape[2:])
    blended = predictor._blended(torch.zeros(2, 3, *size))
    assert blended.shape == (2, KINDS, *size)
    assert torch.allclose(blended, value.expand(2, -1, *size), atol=1e-5)


def test_blended_windows_are_smoother_than_a_plain_mean(run):
    """Where windows disagree, weights that fall to the border leave no step at the border."""
    steps = {}
    for blend in get_args(windows.Blend):
        predictor = Network(*run, TestTimeOptions(sliding=True, window_blend=blend))
        count = iter(range(99))
        predictor._logits = lambda crops, c=count: torch.full((len(crops), KINDS, *crops.shape[2:]), float(next(c) % 2))
        row = predictor._blended(torch.zeros(1, 3, 64, 192))[0, 0, 32]
        steps[blend] = row.diff().abs().max()
    assert steps["constant"] >= 0.5 and max(steps["triangular"], steps["gaussian"]) < 0.2


def test_plain_windows_are_those_of_mmseg(run, images):
    """The same logits as mmseg's own slide mode, whatever the batch, with the network as it is and made lighter."""
    theirs = Network(*run, TestTimeOptions(sliding=True))
    theirs.model.test_cfg = type(theirs.model.test_cfg)(mode="slide", crop_size=theirs.window, stride=theirs.stride)
    pixels = theirs.inputs(images)
    size = pixels.shape[2:]
    meta = dict(ori_shape=size, img_shape=size, pad_shape=size, padding_size=[0] * 4)
    with torch.inference_mode():
        expected = theirs.model.inference(pixels, [dict(meta) for _ in images])
        for batch, lighter in ((1, False), (7, False), (7, True)):
            ours = Network(*run, TestTimeOptions(sliding=True, crops_per_batch=batch))
            if lighter:
                ours.prepare()
            found = ours._blended(pixels)
            assert torch.allclose(found, expected, atol=1e-4 * expected.abs().max())
            assert (found.argmax(1) == expected.argmax(1)).float().mean() > 0.999
