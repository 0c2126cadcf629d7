"""One source image rendered as the target camera would have taken it."""
