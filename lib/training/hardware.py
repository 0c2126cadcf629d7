"""Processes and devices of a training, and the entries of the config that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lib.errors import InputError

if TYPE_CHECKING:  # importing mmengine takes seconds
    from mmengine import Config

PRECISIONS = {"bf16": "bfloat16", "fp16": "float16"}
"""Data types of mixed precision by their short names."""


@dataclass(frozen=True)
class Hardware:
    """Processes and devices of a training.

    Attributes:
        processes: training processes; each drives one GPU where there are any.
        gpus: GPUs that torch sees.
        bf16: whether they compute in bfloat16.
    """

    processes: int = 1
    gpus: int = 0
    bf16: bool = False

    @classmethod
    def detect(cls, processes: int | None = None) -> Hardware:
        """Return this machine's devices; ``processes`` None: one process per GPU, or one without a GPU."""
        import torch

        gpus = torch.cuda.device_count()
        return cls(processes or max(1, gpus), gpus, gpus > 0 and torch.cuda.is_bf16_supported())


def device_entries(cfg: Config, hardware: Hardware, amp: bool | str) -> dict:
    """Return the entries of a config that differ by device and number of processes."""
    environment = dict(
        cudnn_benchmark=True,
        mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
        dist_cfg=dict(backend="nccl"),
    )
    entries: dict[str, Any] = dict(amp=amp, env_cfg=environment)
    if hardware.gpus and amp:
        entries["optim_wrapper"] = dict(cfg.optim_wrapper) | mixed_precision(amp, hardware.bf16, cfg.shard)
    if not hardware.gpus:
        entries["model"] = _replaced(cfg.model.to_dict(), "SyncBN", "BN")
    if hardware.processes > 1:
        entries["launcher"] = "pytorch"
        if not hardware.gpus:
            environment["dist_cfg"] = dict(backend="gloo")
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


def _replaced(values: Any, old: str, new: str) -> Any:
    """Return nested dicts and lists with the value ``old`` replaced by ``new``."""
    if isinstance(values, dict):
        return {key: _replaced(value, old, new) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(_replaced(value, old, new) for value in values)
    return new if values == old else values
