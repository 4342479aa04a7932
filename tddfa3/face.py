"""The record of one labelled face: what the friendly door of the library returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tddfa3.drawing.mesh import FaceMesh, mesh_in_crop_frame
from tddfa3.drawing.render import to_uint8
from tddfa3.geometry.batch import FaceBatch
from tddfa3.geometry.camera import ImageCamera, euler_degrees, image_camera, vertices_in_image_frame
from tddfa3.geometry.crop import CropTransform
from tddfa3.geometry.face_model import FaceModel
from tddfa3.geometry.quality import (
    quality_coverage,
    quality_points,
    quality_points106,
    quality_visible,
)
from tddfa3.images.rle import Rle, encode_label_map
from tddfa3.outputs import Outputs

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

QUALITY_LANDMARKS = ("68", "106_2d")
"""Landmark sets that the detector's five and 106 points are compared with."""


@dataclass(slots=True)
class Candidate:
    """A detected face on its way to the networks."""

    image: int
    """Index of its photograph in the call."""
    face_index: int
    box: Floats
    score: float
    points5: Floats | None
    points106: Floats | None
    crop: CropTransform
    n_faces: int = 0

    @property
    def area(self) -> float:
        """Of the box, in square image pixels."""
        x0, y0, x1, y1 = self.box
        return float((x1 - x0) * (y1 - y0))


@dataclass(slots=True)
class Face:
    """One face of one photograph. Everything is NumPy; nothing refers to the networks.

    Frames: *image pixels* are the photograph after EXIF rotation, x right, y down; *crop pixels*
    are the 224 crop, x right, y down (``docs/geometry.md``).
    """

    face_index: int
    """Rank by detector score within the photograph, 0 first."""
    n_faces: int
    """Faces that the detector found in the photograph, labelled or not. Those that have no crop are
    left out where all are looked at; with only one asked for, it alone is looked at."""
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
    """Degrees; see :func:`tddfa3.geometry.camera.euler_degrees` for the signs."""
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
    masks_rle: dict[str, Rle] | None = None
    """Part name to COCO RLE of the visible part on the photograph."""
    meshes: dict[str, FaceMesh] = field(default_factory=dict)
    """"pca" and "extracted", in the frame that was asked for."""
    textures: dict[str, Bytes] = field(default_factory=dict)
    """"pca" and "extracted": (S, S, 3) RGB UV maps; the extracted one is the photograph's where
    the face is visible, blended into the PCA texture where it is not."""
    renders: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    """"face" and "shape": uint8 (224, 224, 3) RGB; "depth": float32 (224, 224, 1) model units;
    "normals": float32 (224, 224, 3). All 0 outside the face."""


def faces_from_batch(
    batch: FaceBatch,
    candidates: Sequence[Candidate],
    model: FaceModel,
    uv: Floats,
    part_names: Sequence[str],
    outputs: Outputs,
) -> list[Face]:
    """One record per face of a batch, each taken back to its photograph.

    Args:
        batch: B labelled crops.
        candidates: the B detections they came from, in the same order.
        model: for the triangles of meshes.
        uv: float32 (V, 2) texture coordinates, for textured meshes.
        part_names: of the bundle, for RLE.
        outputs: what was computed.
    """
    arrays = _BatchArrays(batch)
    return [
        _face(arrays, k, candidate, model, uv, part_names, outputs)
        for k, candidate in enumerate(candidates)
    ]


class _BatchArrays:
    """The tensors of a batch on the CPU, each copied once for the whole batch."""

    def __init__(self, batch: FaceBatch) -> None:
        self.coefficients = {k: _numpy(v) for k, v in batch.geometry.coefficients._asdict().items()}
        self.landmarks = {k: _numpy(v) for k, v in batch.landmarks.items()}
        self.landmarks_visible = {k: _numpy(v) for k, v in batch.landmarks_visible.items()}
        self.visible = _numpy(quality_visible(batch.visible))
        self.coverage = _numpy(quality_coverage(batch.raster))
        self.seg = None if batch.seg is None else _numpy(batch.seg)
        self.seg_visible = None if batch.seg_visible is None else _numpy(batch.seg_visible)
        self.colors = {k: _numpy(v) for k, v in batch.colors.items()}
        self.textures = {k: _numpy(v) for k, v in batch.textures.items()}
        self.renders = {
            k: _numpy(to_uint8(v) if k in ("face", "shape") else v)
            for k, v in batch.renders.items()
        }
        self.geometry = batch.geometry


def _face(
    arrays: _BatchArrays,
    k: int,
    candidate: Candidate,
    model: FaceModel,
    uv: Floats,
    part_names: Sequence[str],
    outputs: Outputs,
) -> Face:
    coefficients = {name: values[k] for name, values in arrays.coefficients.items()}
    crop = candidate.crop
    landmarks = {
        name: crop.to_image(points[k]).astype(np.float32)
        for name, points in arrays.landmarks.items()
    }
    yaw, pitch, roll = (float(v) for v in euler_degrees(coefficients["angle"]))
    face = Face(
        face_index=candidate.face_index,
        n_faces=candidate.n_faces,
        box=candidate.box,
        score=candidate.score,
        points5=candidate.points5,
        points106=candidate.points106 if outputs.points106 else None,
        crop=crop,
        coefficients=coefficients,
        camera=image_camera(coefficients["angle"], coefficients["trans"], crop),
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        landmarks={name: landmarks[name] for name in outputs.landmarks},
        landmarks_crop={name: arrays.landmarks[name][k] for name in outputs.landmarks},
        landmarks_visible={name: arrays.landmarks_visible[name][k] for name in outputs.landmarks},
        quality_points=quality_points(candidate.points5, landmarks["68"]),
        quality_points106=quality_points106(
            candidate.points106, landmarks["106_2d"], landmarks["68"]
        ),
        quality_visible=float(arrays.visible[k]),
        quality_coverage=float(arrays.coverage[k]),
        textures={name: maps[k] for name, maps in arrays.textures.items()},
        renders={name: pictures[k] for name, pictures in arrays.renders.items()},
    )
    if arrays.seg is not None:
        face.seg = arrays.seg[k]
    if arrays.seg_visible is not None:
        labels = arrays.seg_visible[k]
        if "seg_visible" in outputs.masks:
            face.seg_visible = labels
        if "rle" in outputs.masks:
            face.masks_rle = visible_parts_rle(labels, crop, part_names)
    for name in outputs.meshes:
        face.meshes[name] = _mesh(arrays, k, name, crop, model, uv, outputs)
    return face


def _mesh(
    arrays: _BatchArrays,
    k: int,
    name: str,
    crop: CropTransform,
    model: FaceModel,
    uv: Floats,
    outputs: Outputs,
) -> FaceMesh:
    if outputs.mesh_frame == "model":
        vertices = _numpy(arrays.geometry.shape[k])
    elif outputs.mesh_frame == "image":
        vertices = vertices_in_image_frame(_numpy(arrays.geometry.camera[k]))
    else:
        vertices = mesh_in_crop_frame(_numpy(arrays.geometry.camera[k]))
    return FaceMesh(
        vertices=vertices.astype(np.float32),
        triangles=_numpy(model.triangles),
        colors=arrays.colors[name][k],
        uv=uv,
        texture=arrays.textures[name][k] if name in outputs.textures else None,
    )


def visible_parts_rle(
    labels: Bytes, crop: CropTransform, part_names: Sequence[str]
) -> dict[str, Rle]:
    """COCO RLE of each visible part on the photograph.

    Args:
        labels: uint8 (224, 224), 0 background, 1.. the part.
        crop: the way back to the photograph.
        part_names: of labels 1, 2, ...
    """
    on_image = crop.labels_to_image(labels)
    return dict(zip(part_names, encode_label_map(on_image, len(part_names)), strict=True))


def _numpy(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().numpy()
