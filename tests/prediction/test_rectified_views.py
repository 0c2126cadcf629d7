"""Rectified views and the way back to the lens's image."""

import cv2
import numpy as np
import torch

from lib.prediction.rectified_views import rectified_views, visible_angles
from tests.builders import camera


def test_a_view_returns_each_pixel_to_its_place():
    """Probabilities that tell the place in the lens's image are read by the views and bent back."""
    target = camera()
    y, x = np.uint8(np.mgrid[: target.size[1], : target.size[0]] // 2)
    places = cv2.merge([x, y, np.full_like(x, 255)])
    total, weight = np.zeros((180, 320, 3)), np.zeros((180, 320))
    for view in rectified_views(target.lens, 3, visible_angles(target.lens, target.overlay.mask)):
        seen = torch.from_numpy(view.remap.image(places).astype(np.float32)).permute(2, 0, 1)[None]
        back = view.to_lens_image(seen)[0].permute(1, 2, 0).numpy()
        sure = view.weight > 0.1
        assert np.abs(back[sure] / view.weight[sure, None] - places[sure]).max() < 0.8
        total, weight = total + back, weight + view.weight
    street = ~target.overlay.mask
    assert (weight[street] > 0).mean() > 0.7, "the views cover most of the street"
    assert (weight[:, [5, -6]] > 0).any(axis=0).all(), "from side to side"
    assert total[weight == 0].max() == 0
