"""The training process: ``python -m lib.training.worker CONFIG [PROCESSES]``.

Several processes are started by torchrun. An exception is left in torch's error file (``TORCHELASTIC_ERROR_FILE``).
"""

import logging
import multiprocessing
import os
import sys

import torch
from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, get_error_handler

from lib.recipes.config_file import read_config
from lib.training.processes import die_with_parent


def work(config: str) -> None:
    """Train in this process, one of ``WORLD_SIZE``."""
    from mmengine.registry import RUNNERS

    from lib.training.transfer import without_semaphores  # here, because torchrun needs no mmengine

    die_with_parent()
    os.register_at_fork(after_in_child=die_with_parent)  # data loaders
    cfg = read_config(config)
    without_semaphores(cfg)
    if cfg.env_cfg.dist_cfg.backend == "gloo":  # mmengine's own start would ask for a GPU
        torch.distributed.init_process_group("gloo")
    RUNNERS.build(cfg).train()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        for child in multiprocessing.active_children():
            child.terminate()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # threads of sharded training may abort the process while the interpreter shuts down


def start(config: str, processes: int) -> None:
    """Train in several processes; exit like the first one that failed, with 128 + N after signal N."""
    logging.disable(logging.ERROR)  # torchrun's account of a failure, which follows from the error file
    several = ["--standalone", f"--nproc_per_node={processes}", "-m", "lib.training.worker", config]
    try:
        torchrun.main(several)
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        sys.exit(128 - code if code < 0 else code)


if __name__ == "__main__":
    if len(sys.argv) > 2 and int(sys.argv[2]) > 1:
        start(sys.argv[1], int(sys.argv[2]))
    else:
        try:
            work(sys.argv[1])
        except Exception as error:
            get_error_handler().record_exception(error)
            raise
