"""Checkpoints: find or download a file, read it, convert its format, load its weights into a network."""
