"""Camera geometry, warping, the target's static surroundings, and the augmentation built on them."""
