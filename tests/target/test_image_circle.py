"""The image circle of overlays whose circle is known."""

import numpy as np

from lib.sample import CameraOverlay
from lib.target.lens import find_image_circle

SIZE = (480, 270)


def test_the_image_circle_is_found_beside_the_hood():
    overlay = CameraOverlay(circle=0.7, centre=(0.03, -0.02))
    found = find_image_circle(overlay.hidden((960, 540)), SIZE)
    truth = (239.5 + 0.03 * 270, 134.5 - 0.02 * 270, 0.7 * 270)
    assert np.allclose((found.x, found.y, found.radius), truth, atol=2)
    assert find_image_circle(CameraOverlay(circle=2).mask(SIZE), SIZE) is None, "a hood is no circle"
    assert find_image_circle(np.zeros((270, 480), bool), SIZE) is None
    assert find_image_circle(np.ones((270, 480), bool), SIZE) is None
