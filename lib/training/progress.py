"""How a training process tells the process that started it where it stands (no heavy imports here)."""

PROGRESS = "@progress "
"""Starts a line of output that carries the state as JSON: ``iter`` and ``loss`` or ``mIoU``."""
