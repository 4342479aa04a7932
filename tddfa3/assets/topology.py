"""Correspondences between mesh topologies, which transfer per-vertex data from one to another.

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
    """A mapping of vertices between two topologies.

    Attributes:
        source: number of vertices of the source topology.
        target: number of vertices of the target topology.
        indices: int32 (target,), the source vertex of each target vertex.
    """

    source: int
    target: int
    indices: Array

    def apply(self, data: Array) -> Array:
        """Transfers per-vertex data from the source to the target topology.

        Args:
            data: (source, ...).

        Returns:
            (target, ...), of the same dtype.

        Raises:
            ValueError: If ``data`` has another number of vertices.
        """
        data = np.asarray(data)
        if data.ndim == 0 or len(data) != self.source:
            raise ValueError(f"data has shape {data.shape}, not ({self.source}, ...)")
        return data[self.indices]

    def apply_inverse(self, data: Array, fill: float = np.nan) -> Array:
        """Transfers per-vertex data from the target back to the source topology.

        Args:
            data: (target, ...).
            fill: value of source vertices without a counterpart.

        Returns:
            (source, ...), of the same dtype.

        Raises:
            ValueError: If ``data`` has another number of vertices, or its dtype has no NaN and no
                other ``fill`` is given.
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
    """All correspondences of a bundle by (source, target); empty if it has none."""
    if CORRESPONDENCES_FILE not in bundle.files:
        return {}
    correspondences = {}
    for key, tensor in bundle.tensors(CORRESPONDENCES_FILE).items():
        source, target = (int(size) for size in key.split("_"))
        indices = checked_indices(tensor.numpy(), source, target, CORRESPONDENCES_FILE)
        correspondences[source, target] = Correspondence(source, target, indices)
    return correspondences


def checked_indices(indices: object, source: int, target: int, file: str) -> Array:
    """Validates the content of ``indices_SOURCE_TARGET.npy``.

    Args:
        indices: the array that was read.
        source: number of vertices of the source topology.
        target: number of vertices of the target topology.
        file: name of the file for messages.

    Returns:
        int32 (target,).

    Raises:
        AssetError: If the shape or dtype differs, or an index is out of bounds.
    """
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
