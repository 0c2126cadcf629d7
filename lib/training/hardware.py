"""Processes and devices of a training, and the entries of the config that follow from them."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lib.errors import InputError

if TYPE_CHECKING:  # importing mmengine takes seconds
    from mmengine import Config

PRECISIONS = {"bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True)
class Hardware:
    """Processes and devices of a training."""

    processes: int = 1  # each drives one GPU where there are any
    gpus: int = 0  # that torch sees
    bf16: bool = False  # whether they compute in it

    @classmethod
    def detect(cls, processes: int | None = None) -> Hardware:
        """Return this machine's devices; ``processes`` None: one process per GPU, or one without a GPU."""
        import torch

        gpus = torch.cuda.device_count()
        return cls(processes or max(1, gpus), gpus, gpus > 0 and torch.cuda.is_bf16_supported())


def device_entries(cfg: Config, hardware: Hardware, amp: bool | str) -> dict:
    """Return the entries of a config that differ by device and number of processes."""
    gloo = hardware.processes > 1 and not hardware.gpus
    environment = dict(cudnn_benchmark=True, dist_cfg=dict(backend="gloo" if gloo else "nccl"))
    entries: dict[str, Any] = dict(amp=amp, env_cfg=environment)
    if hardware.gpus and amp:
        entries["optim_wrapper"] = dict(cfg.optim_wrapper) | mixed_precision(amp, hardware.bf16, cfg.shard)
    if not hardware.gpus:  # a config consists of literals
        entries["model"] = ast.literal_eval(repr(cfg.model.to_dict()).replace("'SyncBN'", "'BN'"))
    if hardware.processes > 1:
        entries["launcher"] = "pytorch"
    if gloo:
        entries["model_wrapper_cfg"] = dict(type="MMDistributedDataParallel", device_ids=None)
    if cfg.shard:
        entries["runner_type"] = "ShardedRunner"
        imports = [*cfg.custom_imports.imports, "lib.training.sharding"]
        entries["custom_imports"] = dict(cfg.custom_imports, imports=imports)
    return entries


def mixed_precision(amp: bool | str, bf16: bool, shard: bool = False) -> dict:
    """Return an optimiser wrapper's entries; ``bf16``: the GPU has it; ``shard``: weights are sharded."""
    dtype = PRECISIONS.get(str(amp)) or PRECISIONS["bf16" if bf16 else "fp16"]
    if shard and dtype == "float16":
        raise InputError("shard: this GPU has no bf16, and sharded weights do not train in fp16; pass amp=False.")
    # bf16 has the range of fp32, so its gradients need no scaling.
    return dict(type="AmpOptimWrapper", dtype=dtype, loss_scale=dict(enabled=dtype == "float16"))
