"""Batches on their way from loader processes to the training: through shared memory where it suffices, else by pipes.

Containers often have a shared memory (``/dev/shm``) of 64 MB or less. A loader process that finds it full loses its
batch, and the training would wait for that batch for ever.
"""

import io
import multiprocessing
import os
import pickle
import shutil
from collections.abc import Mapping, Sequence

import torch
from mmengine import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import FUNCTIONS
from mmengine.structures import BaseDataElement
from torch import Tensor
from torch.utils.data import get_worker_info

from lib.training import progress

_SHARED = "/dev/shm"
_REMEDY = "a container gets more by `docker run --shm-size=8g`"
_SEMAPHORES = (16, 4)  # of two data loaders, and of each of their processes

_said = False


@FUNCTIONS.register_module()
def collate_for_transfer(samples: Sequence):
    """Collate as mmengine's ``pseudo_collate``; in a loader process, choose the batch's way to the training."""
    global _said
    batch, worker = pseudo_collate(samples), get_worker_info()
    if worker is None:
        return batch
    loaders = worker.num_workers * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    needed, free = 2 * loaders * size(batch), _free()  # all may send one at once, of different sizes
    if free >= needed:
        return batch
    if not _said and worker.id == 0 and os.environ.get("RANK", "0") == "0":
        found = (
            f"shared memory ({_SHARED}) has {free / 1e6:.1f} MB free, and the data loaders need {needed / 1e6:.1f} MB"
        )
        progress.print_note(f"{found}; batches go through pipes instead, which is slower ({_REMEDY})")
        _said = True
    return ByValue(batch)


def without_semaphores(cfg: Config) -> None:
    """Let the training load its data itself where shared memory is too full even for the semaphores of loaders."""
    workers = cfg.train_dataloader.num_workers
    if not workers:
        return
    try:
        held = [multiprocessing.Semaphore() for _ in range(_SEMAPHORES[0] + 2 * workers * _SEMAPHORES[1])]
    except OSError as error:
        found = f"shared memory ({_SHARED}) is full or missing ({error.strerror})"
        progress.print_note(f"{found}; the training process loads its data itself, which is slower ({_REMEDY})")
        for loader in (cfg.train_dataloader, cfg.val_dataloader):
            loader.num_workers, loader.persistent_workers = 0, False
    else:
        held.clear()


def size(batch) -> int:
    """Return the bytes of all tensors in a batch."""
    if isinstance(batch, Tensor):
        return batch.nbytes
    if isinstance(batch, BaseDataElement):
        return size(dict(batch.all_items()))
    if isinstance(batch, Mapping):
        return size(list(batch.values()))
    return sum(map(size, batch)) if isinstance(batch, list | tuple) else 0


def _free() -> int:
    try:
        return shutil.disk_usage(_SHARED).free
    except OSError:
        return 0


class ByValue:
    """A batch that arrives as itself at the other end of a pipe, without shared memory."""

    def __init__(self, batch):
        self.batch = batch

    def __reduce__(self):
        buffer = io.BytesIO()
        _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(self.batch)
        return pickle.loads, (buffer.getvalue(),)


class _Pickler(pickle.Pickler):
    def reducer_override(self, value):
        return (torch.from_numpy, (value.numpy(),)) if isinstance(value, Tensor) else NotImplemented
