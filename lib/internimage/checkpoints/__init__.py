"""Weights into a network: download, read, rename, compare, load."""
