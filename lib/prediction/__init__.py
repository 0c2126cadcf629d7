"""Predict class maps with trained networks: windows, test-time options, choice of a checkpoint without labels."""
