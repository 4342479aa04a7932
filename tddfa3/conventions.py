"""Names and sizes used throughout. Imports nothing, so that programs start fast."""

from __future__ import annotations

CROP_SIZE = 224
"""Side of the crop that the networks see, and of its masks and renders, in pixels."""

FOCAL = 1015.0
"""Focal length of the crop's camera in crop pixels: a field of view of 12.6 degrees."""
CENTRE = 112.0
"""Principal point of the crop's camera, in crop pixels from either edge."""
CAMERA_DISTANCE = 10.0
"""Distance of the camera from the origin of the model frame, in model units."""

LANDMARK_COUNTS = {"68": 68, "106": 106, "134": 134}
"""Points of the landmark sets that are fixed vertices of a face model."""

LANDMARK_SETS = ("68", "106", "106_2d", "134")
"""106_2d is 106 with its contour on the visible silhouette; the others are fixed vertices."""

PART_NAMES = (
    "right_eye",
    "left_eye",
    "right_eyebrow",
    "left_eyebrow",
    "nose",
    "up_lip",
    "down_lip",
    "skin",
)
"""3DDFA-V3's parts in order; "right" is the subject's. Every bundle states its own names."""
