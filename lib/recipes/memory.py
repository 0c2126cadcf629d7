"""What makes a training fit into a card, as entries of a recipe: ``accumulate``, ``clip_grad``, ``ema``, ``shard``.

They are numbers at the recipe's top, to be set there or through ``options``:

- ``accumulate``: iterations that make one step of the optimiser; ``max_iters`` goes on counting iterations.
- ``clip_grad``: largest norm of the gradient.
- ``ema``: weight of each step's new values in a running average of the weights, such as 2e-4; validation, checkpoints
  and inference then use the average.
- ``shard``: spread weights, gradients and the optimiser's state over the processes.
"""

from __future__ import annotations

from lib.errors import InputError

ENTRIES = ("accumulate", "clip_grad", "ema", "shard")


def add(cfg) -> None:
    """Complete the config by what the recipe's entries ask for.

    Raises:
        InputError: entries that are out of range, or that do not go together.
    """
    accumulate, clip, average = cfg.get("accumulate", 1), cfg.get("clip_grad"), cfg.get("ema")
    _require(isinstance(accumulate, int) and accumulate >= 1, "accumulate", accumulate, "a whole number from 1")
    _require(clip is None or clip > 0, "clip_grad", clip, "a positive number, or None")
    _require(average is None or 0 < average < 1, "ema", average, "a number between 0 and 1, or None")
    _require(
        average is None or not cfg.get("shard"),
        "ema",
        average,
        "None with shard: there is no process that could hold a second network",
    )
    if accumulate > 1:
        cfg.optim_wrapper.accumulative_counts = accumulate
        # A checkpoint in the middle of a step would lose the gradients that have come together so far.
        cfg.val_interval = -(-cfg.val_interval // accumulate) * accumulate
    if clip is not None:
        cfg.optim_wrapper.clip_grad = dict(max_norm=clip)
    if average is not None:
        hook = dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=average, interval=accumulate)
        # Averaged weights with the last step's batch statistics would not belong together.
        cfg.custom_hooks = [*cfg.get("custom_hooks", []), dict(hook, update_buffers=True)]


def _require(condition, name: str, found, expected: str) -> None:
    if not condition:
        raise InputError(f"{name}: {found!r} (expected {expected})")
