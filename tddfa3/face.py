"""The record of one labelled face, as :class:`~tddfa3.labeler.FaceLabeler` returns it."""

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
    """A detected face that is to be labelled; see :class:`Face` for the attributes not listed.

    Attributes:
        image: index of its photograph in the call.
    """

    image: int
    face_index: int
    box: Floats
    score: float
    points5: Floats | None
    points106: Floats | None
    crop: CropTransform
    n_faces: int = 0

    @property
    def area(self) -> float:
        """Area of the box in square image pixels."""
        x0, y0, x1, y1 = self.box
        return float((x1 - x0) * (y1 - y0))


@dataclass(slots=True)
class Face:
    """One face of one photograph. All arrays are NumPy's; nothing refers to the networks.

    Frames: *image pixels* are the photograph after EXIF rotation, x right, y down; *crop pixels*
    are the 224 crop, x right, y down (``docs/geometry.md``).

    Attributes:
        face_index: rank by detector score within the photograph, from 0.
        n_faces: number of faces that the detector found in the photograph, labelled or not. When
            all faces are examined, those without a crop are not counted; when only one was asked
            for, only that one is examined.
        box: float32 (4,) x0, y0, x1, y1 in image pixels.
        score: the detector's score, 0..1.
        points5: float32 (5, 2) viewer's left eye, right eye, nose tip, left and right mouth corner,
            image pixels; None if the photograph was given as a ready crop.
        points106: float32 (106, 2) the detector's own 106 points in image pixels (RetinaFace), else
            None.
        crop: maps between image pixels and crop pixels.
        coefficients: id, exp, alb, angle (pitch, yaw, roll in radians), sh, trans; float32 (k,).
        camera: K, R, t of the photograph's own camera, OpenCV axes.
        yaw: degrees; see :func:`tddfa3.geometry.camera.euler_degrees` for the signs.
        pitch: degrees.
        roll: degrees.
        landmarks: set name ("68", "106", "106_2d", "134") to float32 (N, 2) image pixels.
        landmarks_crop: the same in crop pixels.
        landmarks_visible: set name to bool (N,), whether the landmark's vertex is visible.
        quality_points: distance of the detector's points from the projected landmarks, in units of
            :func:`tddfa3.geometry.quality.face_size`; small is good. None where undefined.
        quality_points106: the same over the detector's 106 points (RetinaFace), the strongest
            signal.
        quality_visible: share of the mesh's vertices that are visible, 0..1.
        quality_coverage: share of the crop that the mesh covers, 0..1.
        seg: uint8 (224, 224), bit i set where part i lies, ignoring occlusion.
        seg_visible: uint8 (224, 224), 0 for the background, 1..8 for the visible part; where parts
            overlap, the later one wins.
        masks_rle: part name to COCO RLE of the visible part on the photograph.
        meshes: "pca" and "extracted", in the frame that was asked for.
        textures: "pca" and "extracted": UV maps, uint8 (S, S, 3) RGB. The extracted one shows the
            photograph where the face is visible, blended into the fill of ``Outputs.blend``.
        renders: "face" and "shape": uint8 (224, 224, 3) RGB; "depth": float32 (224, 224, 1) in
            model units; "normals": float32 (224, 224, 3). All 0 outside the face.
    """

    face_index: int
    n_faces: int
    box: Floats
    score: float
    points5: Floats | None
    points106: Floats | None
    crop: CropTransform
    coefficients: dict[str, Floats]
    camera: ImageCamera
    yaw: float
    pitch: float
    roll: float
    landmarks: dict[str, Floats]
    landmarks_crop: dict[str, Floats]
    landmarks_visible: dict[str, NDArray[np.bool_]]
    quality_points: float | None
    quality_points106: float | None
    quality_visible: float
    quality_coverage: float
    seg: Bytes | None = None
    seg_visible: Bytes | None = None
    masks_rle: dict[str, Rle] | None = None
    meshes: dict[str, FaceMesh] = field(default_factory=dict)
    textures: dict[str, Bytes] = field(default_factory=dict)
    renders: dict[str, NDArray[np.generic]] = field(default_factory=dict)


def faces_from_batch(
    batch: FaceBatch,
    candidates: Sequence[Candidate],
    model: FaceModel,
    uv: Floats,
    part_names: Sequence[str],
    outputs: Outputs,
) -> list[Face]:
    """Makes one record per face of a batch, mapping results back to the photographs.

    Args:
        batch: B labelled crops.
        candidates: the B detections they came from, in the same order.
        model: provides the triangles of meshes.
        uv: float32 (V, 2) texture coordinates of meshes.
        part_names: of the bundle, for RLE.
        outputs: what was computed.

    Returns:
        the B records, in the order of the batch.
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
    """Encodes each visible part as COCO RLE on the photograph.

    Args:
        labels: uint8 (224, 224), 0 for the background, else part + 1.
        crop: where the crop lies in the photograph.
        part_names: of labels 1, 2, ...

    Returns:
        part name to RLE of the photograph's size.
    """
    on_image = crop.labels_to_image(labels)
    return dict(zip(part_names, encode_label_map(on_image, len(part_names)), strict=True))


def _numpy(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().numpy()
