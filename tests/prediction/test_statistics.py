"""Adaptation of batch norms and features."""

import pytest
import torch
from torch import nn

from lib.errors import InputError
from lib.prediction.statistics import adapt_batch_norms, align_features


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
    assert adapt_batch_norms(model, forward, 0.25) == 2
    assert torch.allclose(model[1].running_mean, 0.75 * before[0] + 0.25 * seen.mean(1), atol=1e-4)
    assert torch.allclose(model[1].running_var, 0.75 * before[1] + 0.25 * seen.var(1, correction=0), rtol=1e-4)
    adapt_batch_norms(model, forward, 1.0)
    with torch.inference_mode():  # then what leaves the last one is normalised over these images
        out = torch.cat([model(batch).transpose(0, 1).flatten(1) for batch in batches], 1)
    assert torch.allclose(out.mean(1), torch.zeros(4), atol=1e-3)
    assert torch.allclose(out.std(1), torch.ones(4), atol=1e-2)
    with pytest.raises(InputError, match="no batch norm"):
        adapt_batch_norms(nn.Conv2d(3, 3, 1), lambda: None, 0.5)


def test_aligned_features_have_the_sources_mean_and_deviation():
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
    align_features(model, lambda: moments(source), lambda: moments(target), 0.5)
    for half, first, last in zip(moments(target), before, wanted, strict=True):
        assert torch.allclose(half, (first + last) / 2, rtol=1e-2, atol=1e-2)
    model.backbone._forward_hooks.clear()
    align_features(model, lambda: moments(source), lambda: moments(target), 1.0)
    assert all(torch.allclose(*pair, rtol=1e-2, atol=1e-2) for pair in zip(moments(target), wanted, strict=True))
