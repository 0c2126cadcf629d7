"""Off the road from images to submission: zoo, costs, rehearsal, conversion, ImageNet evaluation."""
