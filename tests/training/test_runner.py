import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from lib.training.runner import plain, restored


def test_the_message_hub_is_saved_as_data(tmp_path):
    losses = HistoryBuffer([0.1, 0.25, 1 / 3], [1, 2, 1], max_length=7)
    hub = {
        "log_scalars": {"loss": losses, "none": HistoryBuffer()},
        "runtime_info": {"best_score": np.float64(0.1), "keep": ["a.pth"], "metainfo": {"classes": ("a", "b")}},
        "resumed_keys": {"loss": True},
    }
    torch.save(plain(hub), tmp_path / "hub.pth")
    found = restored(torch.load(tmp_path / "hub.pth", weights_only=True))
    for before, after in zip(losses.data, found["log_scalars"]["loss"].data, strict=True):
        assert np.array_equal(before, after)
    assert found["log_scalars"]["loss"].max_length == 7 and len(found["log_scalars"]["none"].data[0]) == 0
    score = found["runtime_info"].pop("best_score")
    assert type(score) is float and score == 0.1
    assert found["runtime_info"] == {"keep": ["a.pth"], "metainfo": {"classes": ["a", "b"]}}
