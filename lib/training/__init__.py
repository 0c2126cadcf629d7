"""Training: its config, its process, its data and hooks, and self-training."""
