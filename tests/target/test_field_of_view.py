"""The field of view estimated from rendered streets."""

import numpy as np
import pytest

from lib.camera.models import Pinhole
from lib.dataset import image_files
from lib.errors import InputError
from lib.sample import SOURCE_SENSOR, render
from lib.target.lens import estimate_field_of_view

SIZE = (480, 270)


@pytest.mark.slow
@pytest.mark.parametrize("degrees", [50, 90])
def test_right_angles_determine_the_field_of_view(degrees, tmp_path):
    camera = Pinhole.from_fov(SIZE, np.radians(degrees))
    paths = [tmp_path / f"{i}.png" for i in range(12)]
    for i, path in enumerate(paths):
        image_files.write_png(path, render((5, i), camera, SOURCE_SENSOR)[0])
    found = estimate_field_of_view(paths)
    # Twelve images tell it to some percent; on another processor another few edges are found.
    assert found.angle_rad == pytest.approx(np.radians(degrees), rel=0.06) and found.estimated
    assert 0 < found.deviation_rad < 0.1 and "edges straightened" in found.report
    odd = tmp_path / "odd.png"
    image_files.write_png(odd, np.zeros((80, 160, 3), np.uint8))
    assert estimate_field_of_view([paths[0], odd]).angle_rad == estimate_field_of_view(paths[:1]).angle_rad


def test_source_images_without_evidence_give_an_ordinary_field_of_view(tmp_path):
    path = tmp_path / "black.png"
    image_files.write_png(path, np.zeros((270, 480, 3), np.uint8))
    found = estimate_field_of_view([path])
    assert not found.estimated and 60 < np.degrees(found.angle_rad) < 75 and "is a guess" in found.report
    with pytest.raises(InputError, match="at least 1"):
        estimate_field_of_view([])
