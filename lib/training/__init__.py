"""The training process, its data pipeline and hooks, and self-training."""
