"""Segment a fisheye camera's images when only an undistorted camera has labels."""

import os

# Idle OpenMP threads sleep instead of spinning. Where there are fewer free cores than threads (data loaders beside a
# training, a busy machine) spinning ones slow everything down many times. Takes effect if torch is imported later.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.3.0"
