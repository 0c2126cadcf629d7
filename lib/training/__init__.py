"""Training: its config, its process, its data and hooks, and self-training."""

PROGRESS = "@progress "
"""Prefix of an output line that carries the training's state as JSON: ``iter``, and ``loss`` or ``mIoU``."""
