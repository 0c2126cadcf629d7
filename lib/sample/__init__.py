"""The built-in data set: random streets, rendered by ray casting and written in the competition's layout."""

from lib.sample.cameras import RIGS, Rig, source_camera, target_camera
from lib.sample.dataset import write
from lib.sample.overlay import CameraOverlay
from lib.sample.render import render
from lib.sample.sensor import SOURCE_SENSOR, TARGET_SENSOR, Sensor

__all__ = [
    "RIGS",
    "SOURCE_SENSOR",
    "TARGET_SENSOR",
    "CameraOverlay",
    "Rig",
    "Sensor",
    "render",
    "source_camera",
    "target_camera",
    "write",
]
