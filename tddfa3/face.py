"""The record of one labelled face: what the friendly door of the library returns."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tddfa3.camera import ImageCamera
from tddfa3.crop import CropTransform
from tddfa3.mesh import FaceMesh

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@dataclass(slots=True)
class Face:
    """One face of one photograph. Everything is NumPy; nothing refers to the networks.

    Frames: *image pixels* are the photograph after EXIF rotation, x right, y down; *crop pixels*
    are the 224 crop, x right, y down (``docs/geometry.md``).
    """

    face_index: int
    """Rank by detector score within the photograph, 0 first."""
    box: Floats
    """(4,) x0, y0, x1, y1 in image pixels."""
    score: float
    """The detector's score, 0..1."""
    points5: Floats | None
    """(5, 2) viewer's left eye, right eye, nose tip, left and right mouth corner, image pixels;
    None where the photograph was given as a ready crop."""
    points106: Floats | None
    """(106, 2) the detector's own 106 points in image pixels (RetinaFace path), else None."""
    crop: CropTransform
    """Between image pixels and crop pixels."""
    coefficients: dict[str, Floats]
    """id, exp, alb, angle (pitch, yaw, roll in rad), sh, trans; each (k,)."""
    camera: ImageCamera
    """K, R, t of the photograph's own camera, OpenCV axes."""
    yaw: float
    """Degrees; see :func:`tddfa3.camera.euler_degrees` for the signs."""
    pitch: float
    roll: float
    landmarks: dict[str, Floats]
    """Set name ("68", "106", "106_2d", "134") to (N, 2) image pixels."""
    landmarks_crop: dict[str, Floats]
    """The same in crop pixels."""
    landmarks_visible: dict[str, NDArray[np.bool_]]
    """(N,) whether the landmark's vertex is visible."""
    quality_points: float | None
    """Detector points against projected landmarks, in inter-ocular distances; small is good."""
    quality_points106: float | None
    """The same over the detector's 106 points (RetinaFace path), the strongest signal."""
    quality_visible: float
    """Share of the mesh's vertices that are visible, 0..1."""
    quality_coverage: float
    """Share of the crop that the mesh covers, 0..1."""
    seg: Bytes | None = None
    """(224, 224) bit i set where part i lies, occlusion ignored."""
    seg_visible: Bytes | None = None
    """(224, 224) 0 background, 1..8 the visible part; a later part wins."""
    masks_rle: dict[str, dict[str, object]] | None = None
    """Part name to COCO RLE of the visible part on the photograph."""
    meshes: dict[str, FaceMesh] = field(default_factory=dict)
    """"pca" and "extracted", in the frame that was asked for."""
    texture: Bytes | None = None
    """(S, S, 3) RGB UV map: extracted from the photograph, PCA where the face is hidden."""
    texture_pca: Bytes | None = None
    """(S, S, 3) RGB UV map of the PCA texture alone."""
    render: Bytes | None = None
    """(224, 224, 3) RGB render of the PCA texture, black outside the face."""
    render_shape: Bytes | None = None
    """(224, 224, 3) RGB grey render of the shape, black outside the face."""
    depth: Floats | None = None
    """(224, 224) distance from the camera in model units, 0 outside the face."""
    normals: Floats | None = None
    """(224, 224, 3) unit normals, x right, y up, z towards the camera, 0 outside the face."""
