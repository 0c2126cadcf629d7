"""mmengine's runner with weights sharded over the processes: torch's ``fully_shard`` (FSDP2, ZeRO-3).

Checkpoints hold whole weights under their usual names, so a training can resume with another number of processes. All
processes compute the same blocks at the same time; in validation that needs images of one size, as 01 writes them.
"""

import torch
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from torch import nn
from torch.distributed.checkpoint import state_dict as states
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from lib.internimage.blocks import Block
from lib.internimage.checkpoints import formats
from lib.training.runner import TrainingRunner

_WHOLE = states.StateDictOptions(full_state_dict=True, cpu_offload=True)


@RUNNERS.register_module()
class ShardedRunner(TrainingRunner):
    """A runner that keeps the network whole, and on the CPU, until hooks' ``before_shard`` have set its weights."""

    def wrap_model(self, model_wrapper_cfg, model: nn.Module) -> nn.Module:
        return model

    def train(self) -> nn.Module:
        self.model.init_weights()
        self.call_hook("before_shard")
        device = torch.device(get_device())
        mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
        for module in self.model.modules():
            if isinstance(module, Block):
                fully_shard(module, mesh=mesh)
        fully_shard(self.model, mesh=mesh)
        self.model.data_preprocessor.to(device)
        return super().train()

    def _init_model_weights(self) -> None:
        """Do nothing: weights were initialised before they were sharded."""

    def load_checkpoint(self, filename: str, map_location="cpu", strict: bool = True, revise_keys=()) -> dict:
        """Load whole weights into the sharded network; every process reads the file."""
        checkpoint = self.read_checkpoint(filename)
        states.set_model_state_dict(self.model, checkpoint["state_dict"], options=_WHOLE)
        return checkpoint

    def resume(self, filename: str, *args, **kwargs) -> None:
        super().resume(filename, resume_optimizer=False)
        self.optim_wrapper = self.build_optim_wrapper(self.optim_wrapper)  # type: ignore[has-type]
        state = formats.read(filename)["optimizer"]
        states.set_optimizer_state_dict(self.model, self.optim_wrapper.optimizer, state, options=_WHOLE)

    def save_checkpoint(self, *args, save_optimizer: bool = True, **kwargs) -> None:
        """Gather whole weights and optimiser state, in which every process takes part; the first one writes them."""
        self._gathered: dict = {"state_dict": states.get_model_state_dict(self.model, options=_WHOLE)}
        if save_optimizer:
            optimizer = self.optim_wrapper.optimizer
            self._gathered["optimizer"] = states.get_optimizer_state_dict(self.model, optimizer, options=_WHOLE)
        super().save_checkpoint(*args, save_optimizer=False, **kwargs)
        del self._gathered

    def call_hook(self, fn_name: str, **kwargs) -> None:
        if fn_name == "before_save_checkpoint":
            kwargs["checkpoint"].update(self._gathered)
        if fn_name == "before_val_epoch":  # all processes score the same network
            for buffer in self.model.buffers():
                torch.distributed.broadcast(buffer, 0)
        super().call_hook(fn_name, **kwargs)
