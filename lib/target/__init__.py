"""The target camera estimated from its own frames: its overlay, its lens, its appearance."""
