"""Tools outside the pipeline: zoo, costs, rehearsal, conversion, ImageNet evaluation."""
