"""The face model of the bundle ``open``: procedural, with proportions measured by MediaPipe."""

from tddfa3.assets.open.chart import face_plane
from tddfa3.assets.open.expressions import EXPRESSION_NAMES, EXPRESSION_RANGES
from tddfa3.assets.open.face import OPEN_VERTICES, open_face_model
from tddfa3.assets.open.identity import IDENTITY_NAMES
from tddfa3.assets.open.skin import ALBEDO_NAMES, from_pupil

__all__ = [
    "ALBEDO_NAMES",
    "EXPRESSION_NAMES",
    "EXPRESSION_RANGES",
    "IDENTITY_NAMES",
    "OPEN_VERTICES",
    "face_plane",
    "from_pupil",
    "open_face_model",
]
