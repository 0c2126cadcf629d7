"""One network: scale, scores and logits, mixed precision."""

import pytest
import torch

from lib.prediction.network import Network
from lib.prediction.options import TestTimeOptions
from lib.prediction.predictor import Predictor


def test_a_view_is_enlarged_as_much_as_the_whole_image(run, images):
    ours, seen = Network(*run), []
    inner = ours._blended
    ours._blended = lambda inputs: seen.append(tuple(inputs.shape[2:])) or inner(inputs)
    ours.probabilities([images[0][:50, :80]], reference=(216, 384))
    assert seen == [(25, 40)]


def test_scores_are_normalised_and_logits_go_through_softmax(run):
    ours, values = Network(*run), torch.tensor([0.2, 0.0, 0.6])[:, None, None].expand(-1, 2, 2)
    assert torch.allclose(ours._normalised(values, (4, 4)).sum(0), torch.ones(4, 4))
    assert torch.allclose(ours._normalised(values, (2, 2)), values.softmax(0))
    ours.gives_scores = True
    assert torch.allclose(ours._normalised(values, (2, 2))[:, 0, 0], torch.tensor([0.25, 0, 0.75]), atol=1e-4)
    assert torch.allclose(ours._normalised(0 * values, (2, 2)), torch.full((3, 2, 2), 1 / 3))


@pytest.mark.parametrize("name, scores", [("Mask2FormerHead", True), ("Mask2FormerLogitsHead", False)])
def test_the_kind_of_head_decides_between_scores_and_logits(run, name, scores, monkeypatch):
    from mmseg.registry import MODELS

    build = MODELS.build

    def built(cfg):
        model = build(cfg)
        if not hasattr(model, "decode_head"):
            return model
        model.decode_head.__class__ = type(name, (type(model.decode_head),), {})
        return model

    monkeypatch.setattr(MODELS, "build", built)
    assert Network(*run).gives_scores is scores


def test_mixed_precision_on_request(run, images):
    exact, mixed = (Predictor(*run, TestTimeOptions(amp=amp)).probabilities(images[0]) for amp in (None, True))
    assert mixed.dtype == torch.float32 and not torch.equal(exact, mixed)
    assert (exact - mixed).abs().mean() < 0.05
