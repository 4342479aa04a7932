"""The face model of the bundle ``open``: procedural, with proportions measured by MediaPipe."""

from tddfa3.assets.generators.open_face.chart import face_plane
from tddfa3.assets.generators.open_face.expressions import EXPRESSION_NAMES, EXPRESSION_RANGES
from tddfa3.assets.generators.open_face.face import OPEN_VERTICES, open_face_model
from tddfa3.assets.generators.open_face.identity import IDENTITY_NAMES
from tddfa3.assets.generators.open_face.skin import ALBEDO_NAMES, from_pupil

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
