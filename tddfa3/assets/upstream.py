"""3DDFA-V3's own asset files: their names, their contents and checks.

Shared by the converter, which reads such files, and by the synthetic assets, which imitate them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tddfa3.assets.bundle import backbone_file
from tddfa3.assets.face_model_data import Array, FaceModelData
from tddfa3.conventions import LANDMARK_COUNTS, PART_NAMES
from tddfa3.errors import AssetError

FACE_MODEL_NPY = "face_model.npy"
SIMILARITY_MAT = "similarity_Lm3D_all.mat"
RESNET50_PTH = "net_recon.pth"
MBNETV3_PTH = "net_recon_mbnet.pth"
LANDMARKS106_PTH = "large_base_net.pth"
RETINAFACE_PTH = "retinaface_resnet50_2020-07-20_old_torch.pth"

NETWORK_FILES = {
    RESNET50_PTH: (backbone_file("resnet50"), "net_recon"),
    MBNETV3_PTH: (backbone_file("mbnetv3"), "net_recon"),
    LANDMARKS106_PTH: ("landmarks106.safetensors", "state_dict"),
    RETINAFACE_PTH: ("retinaface.safetensors", None),
}
"""Upstream's weights file to the bundle's file, and the key of the state dict in it, if any."""
FACE_MODEL_KEYS = (
    "u",
    "id",
    "exp",
    "u_alb",
    "alb",
    "tri",
    "point_buf",
    "uv_coords",
    "ldm68",
    "ldm106",
    "ldm134",
    "annotation",
    "annotation_tri",
    "parallel",
)
UV_SLACK = 1e-4
"""How far a chart may leave 0..1 because of rounding: a tenth of a texture pixel."""
POSE_HEADS = (3, 27, 2, 1)
"""Sizes of a backbone's last four heads: angle, sh, the translation's xy, its z."""


def face_model_from_upstream(
    model: Mapping[str, Any], landmarks68: Array, file: str = FACE_MODEL_NPY
) -> FaceModelData:
    """Converts upstream's face model.

    Args:
        model: the dictionary of ``face_model.npy``.
        landmarks68: (68, 3) mean landmarks, y up.
        file: name of the file for messages.

    Returns:
        the validated 3DMM.

    Raises:
        AssetError: Naming ``file``, if a key is missing or an array doesn't fit.
    """
    missing = [key for key in FACE_MODEL_KEYS if key not in model]
    if missing:
        raise AssetError(f"{file} lacks {', '.join(missing)}: it is not 3DDFA-V3's face model")
    try:
        return FaceModelData(
            mean_shape=_per_vertex(model, "u")[..., 0].copy(),
            id_basis=_per_vertex(model, "id"),
            exp_basis=_per_vertex(model, "exp"),
            mean_albedo=_per_vertex(model, "u_alb")[..., 0].copy(),
            albedo_basis=_per_vertex(model, "alb"),
            triangles=_indices(model, "tri"),
            vertex_triangles=_indices(model, "point_buf"),
            uv=_uv(model),
            landmarks={name: _indices(model, f"ldm{name}").ravel() for name in LANDMARK_COUNTS},
            part_names=PART_NAMES,
            part_vertices=tuple(row.ravel() for row in _index_lists(model, "annotation")),
            part_triangles=_index_lists(model, "annotation_tri"),
            parallel=tuple(row.ravel() for row in _index_lists(model, "parallel")),
            standard_points=standard_points(landmarks68),
        )
    except ValueError as error:
        raise AssetError(f"{file}: {error}") from error


def _floats(model: Mapping[str, Any], key: str) -> Array:
    array = np.asarray(model[key])
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{key} holds {array.dtype}, not numbers")
    return array.astype(np.float32)


def _per_vertex(model: Mapping[str, Any], key: str) -> Array:
    """(3V, n) -> (V, 3, n) float32."""
    array = _floats(model, key)
    if array.ndim != 2 or array.shape[0] % 3 or array.size == 0:
        raise ValueError(f"{key} has shape {array.shape}, not (3 V, n)")
    return np.ascontiguousarray(array.reshape(-1, 3, array.shape[1]))


def _uv(model: Mapping[str, Any]) -> Array:
    array = _floats(model, "uv_coords")
    if array.ndim != 2 or array.shape[1] not in (2, 3):
        raise ValueError(f"uv_coords has shape {array.shape}, not (V, 2) or (V, 3)")
    uv = array[:, :2]  # a third column is not used
    if not (np.isfinite(uv).all() and uv.min() >= -UV_SLACK and uv.max() <= 1 + UV_SLACK):
        raise ValueError(f"uv_coords has values outside 0..1 ({uv.min()}..{uv.max()})")
    return np.ascontiguousarray(uv.clip(0, 1))


def _indices(model: Mapping[str, Any], key: str) -> Array:
    return _as_indices(key, model[key])


def _index_lists(model: Mapping[str, Any], key: str) -> tuple[Array, ...]:
    value = model[key]
    if not isinstance(value, Sequence | np.ndarray):
        raise ValueError(f"{key} is a {type(value).__name__}, not a list of arrays")
    return tuple(_as_indices(f"{key}[{i}]", row) for i, row in enumerate(value))


def _as_indices(name: str, value: Any) -> Array:
    array = np.asarray(value)
    if array.dtype.kind == "f" and np.isfinite(array).all() and (array == array.round()).all():
        array = array.astype(
            np.int64
        )  # files that went through MATLAB hold whole numbers as floats
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} holds {array.dtype}, not integers")
    limit = np.iinfo(np.int32).max
    if array.size and (int(array.min()) < 0 or int(array.max()) > limit):
        raise ValueError(f"{name} has indices {array.min()}..{array.max()}, out of range")
    return np.ascontiguousarray(array.astype(np.int32))


def standard_points(landmarks68: Array, file: str = SIMILARITY_MAT) -> Array:
    """(68,3) mean landmarks -> (5,3) float64 standard points, y up.

    Order: the viewer's left eye, right eye, nose tip, left and right mouth corner. An eye is the
    middle of its two corners.
    """
    points = np.asarray(landmarks68)
    if points.shape != (68, 3) or points.dtype.kind not in "fiu" or not np.isfinite(points).all():
        raise AssetError(f"{file}: lm must be (68, 3) finite numbers, found shape {points.shape}")
    points = points.astype(np.float64)
    left_eye, right_eye = points[[36, 39]].mean(0), points[[42, 45]].mean(0)
    return np.stack([left_eye, right_eye, points[30], points[48], points[54]])


def network_from_upstream(content: Any, file: str, state_key: str | None) -> dict[str, Tensor]:
    """Takes the named tensors from the content of one of upstream's ``.pth`` files.

    The prefix ``module.``, left by data-parallel training, is removed.

    Args:
        content: what was read from the file.
        file: its name for messages.
        state_key: key of the state dict; None if it is at the top.

    Returns:
        the tensors by name.

    Raises:
        AssetError: Naming ``file``, if there are no such tensors, or a value is not finite.
    """
    state = content.get(state_key) if state_key and isinstance(content, Mapping) else content
    if not isinstance(state, Mapping) or not state:
        where = f"under {state_key!r}" if state_key else "at its top"
        raise AssetError(f"{file} has no dictionary of tensors {where}: not the expected network")
    tensors = {}
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise AssetError(f"{file}: {key!r} is a {type(value).__name__}, not a tensor")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise AssetError(f"{file}: {key} has values that are not finite")
        tensors[key.removeprefix("module.")] = value.detach().contiguous().clone()
    return tensors


def check_heads(tensors: Mapping[str, Tensor], model: FaceModelData, file: str) -> None:
    """Checks that a backbone's seven heads match the face model's coefficients.

    Raises:
        AssetError: Otherwise, naming ``file``.
    """
    bases = (model.id_basis, model.exp_basis, model.albedo_basis)
    wanted = [*(basis.shape[2] for basis in bases), *POSE_HEADS]
    weights = [tensors.get(f"final_layers.{i}.weight") for i in range(len(wanted))]
    found = [None if weight is None else weight.shape[0] for weight in weights]
    if found != wanted:
        raise AssetError(
            f"{file}: its heads give {found} numbers, but the face model needs {wanted}; "
            "the two files don't belong together"
        )
