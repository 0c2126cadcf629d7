"""The network made faster: equal results."""

import pytest
import torch
from torch import nn

from lib.prediction.network import Network
from lib.prediction.options import TestTimeOptions
from lib.prediction.predictor import Predictor


def test_a_convolution_split_by_level_is_the_one_of_the_stack():
    from lib.prediction.fusion import SplitConvolution

    torch.manual_seed(0)
    conv = nn.Conv2d(4 * 6, 5, 3, padding=1)
    maps = [torch.randn(2, 6, *size) for size in ((27, 48), (14, 24), (7, 12), (4, 6))]  # sizes rounded up
    stack = [nn.functional.interpolate(m, size=(27, 48), mode="bilinear", align_corners=False) for m in maps]
    with torch.no_grad():
        assert torch.allclose(SplitConvolution(conv, 6)(maps), conv(torch.cat(stack, 1)), atol=1e-5)


def test_a_fused_network_has_no_batch_norms_left(run):
    ours = Network(*run)
    ours.prepare()
    assert not [m for m in ours.model.decode_head.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert "_forward_feature" in vars(ours.model.decode_head)


@pytest.mark.slow
def test_a_compiled_network_gives_the_same(run, images, monkeypatch):
    translated = []

    def backend(graph, example):
        translated.append(graph)
        return graph.forward

    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **kwargs: compiled(f, backend=backend))
    expected = Predictor(*run).probabilities(images[0])
    assert torch.allclose(Predictor(*run, TestTimeOptions(compile=True)).probabilities(images[0]), expected, atol=1e-5)
    assert len(translated) >= 2  # backbone and head
