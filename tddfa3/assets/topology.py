"""Correspondences between mesh topologies: per-vertex data of one carried over to another.

The Basel Face Model is used with 53,490, 53,215, 38,365 or 35,709 vertices; each of the smaller
ones is a selection of vertices of the larger ones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from tddfa3.assets.bundle import CORRESPONDENCES_FILE, AssetBundle
from tddfa3.assets.face_model_data import Array
from tddfa3.errors import AssetError

INDICES_FILE = re.compile(r"indices_(\d+)_(\d+)\.npy")


@dataclass(frozen=True)
class Correspondence:
    """``indices`` (target,) int32: for each vertex of the target topology, one of the source's."""

    source: int
    target: int
    indices: Array

    def apply(self, data: Array) -> Array:
        """Per-vertex data (source, ...) -> (target, ...), of the same dtype.

        Raises ValueError where ``data`` has another number of vertices.
        """
        data = np.asarray(data)
        if data.ndim == 0 or len(data) != self.source:
            raise ValueError(f"data has shape {data.shape}, not ({self.source}, ...)")
        return data[self.indices]

    def apply_inverse(self, data: Array, fill: float = np.nan) -> Array:
        """Per-vertex data (target, ...) -> (source, ...); vertices without a partner get ``fill``.

        Raises ValueError where ``data`` has another number of vertices, or where its dtype can't
        hold ``fill``.
        """
        data = np.asarray(data)
        if data.ndim == 0 or len(data) != self.target:
            raise ValueError(f"data has shape {data.shape}, not ({self.target}, ...)")
        if np.isnan(fill) and data.dtype.kind != "f":
            raise ValueError(f"data is {data.dtype}, which has no NaN; give a fill value")
        result = np.full((self.source, *data.shape[1:]), fill, data.dtype)
        result[self.indices] = data
        return result


def load_correspondences(bundle: AssetBundle) -> dict[tuple[int, int], Correspondence]:
    """All correspondences of a bundle by (source, target); empty where it has none."""
    if CORRESPONDENCES_FILE not in bundle.files:
        return {}
    correspondences = {}
    for key, tensor in bundle.tensors(CORRESPONDENCES_FILE).items():
        source, target = (int(size) for size in key.split("_"))
        indices = checked_indices(tensor.numpy(), source, target, CORRESPONDENCES_FILE)
        correspondences[source, target] = Correspondence(source, target, indices)
    return correspondences


def checked_indices(indices: object, source: int, target: int, file: str) -> Array:
    """The content of ``indices_SOURCE_TARGET.npy`` as (target,) int32, or AssetError."""
    array = np.asarray(indices)
    is_list = array.shape in ((target,), (target, 1), (1, target))
    if not is_list or array.dtype.kind not in "iu":
        raise AssetError(
            f"{file} must hold {target} integers, found {array.dtype} of shape {array.shape}"
        )
    if array.min() < 0 or array.max() >= source:
        raise AssetError(
            f"{file} has indices {array.min()}..{array.max()}; they must lie in 0..{source - 1}"
        )
    return np.ascontiguousarray(array.ravel().astype(np.int32))
