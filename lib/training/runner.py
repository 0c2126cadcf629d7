"""mmengine's runner with checkpoints that hold data alone: they are read without running code of the file.

mmengine pickles objects of its message hub into them, and reads them back by running whatever code a file holds.
"""

from collections import deque
from collections.abc import Mapping

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.model import is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from lib.internimage.checkpoints import formats


@RUNNERS.register_module()
class TrainingRunner(Runner):
    """A runner whose checkpoints are plain data, and that resumes only what fits its network exactly."""

    def dump_config(self) -> None:
        """Do nothing: the run folder has the config from which this training was built."""

    def call_hook(self, fn_name: str, **kwargs) -> None:
        super().call_hook(fn_name, **kwargs)
        if fn_name == "before_save_checkpoint":
            kwargs["checkpoint"]["message_hub"] = plain(kwargs["checkpoint"]["message_hub"])

    def load_checkpoint(self, filename: str, map_location="cpu", strict: bool = True, revise_keys=()) -> dict:
        """Load a checkpoint of this training; a missing or another weight is an error."""
        checkpoint = self.read_checkpoint(filename)
        model = self.model.module if is_model_wrapper(self.model) else self.model
        model.load_state_dict(checkpoint["state_dict"])
        self._has_loaded = True
        return checkpoint

    def read_checkpoint(self, filename: str) -> dict:
        """Read a checkpoint to the CPU, as hooks want it."""
        checkpoint = formats.read(filename)
        checkpoint["message_hub"] = restored(checkpoint["message_hub"])
        checkpoint["meta"].pop("config", None)  # mmengine would run it
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        return checkpoint


def plain(value):
    """Return the state of a message hub as mappings, lists, numbers, text and tensors."""
    if isinstance(value, HistoryBuffer):
        history, counts = (torch.from_numpy(np.array(values, np.float64)) for values in value.data)
        return {"history": history, "counts": counts, "max_length": value.max_length}
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | deque):
        return [plain(inner) for inner in value]
    return value.item() if isinstance(value, np.generic) else value


def restored(state: dict) -> dict:
    """Return the state of a message hub from :func:`plain`'s."""
    buffers = {
        name: HistoryBuffer(entry["history"].numpy(), entry["counts"].numpy(), entry["max_length"])
        for name, entry in state["log_scalars"].items()
    }
    return state | {"log_scalars": buffers}
