"""Small storage for a face model's arrays; everything that reads a bundle gets them back wide."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tddfa3.assets.face_model_data import Array

# Rounded to 11 bits, neighbouring vertices would be off by a degree of their normals.
_STAYS_WIDE = ("mean_shape", "uv")
_WIDE = {np.dtype(np.float16): np.float32, np.dtype(np.uint16): np.int32}


def pack(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays of :meth:`FaceModelData.to_arrays` in 16 bits, where that is enough.

    float32 becomes float16, but for the mean shape and the chart; int32 becomes uint16 where no
    value is too large; float64 stays.
    """
    packed: dict[str, Array] = {}
    for name, array in arrays.items():
        if array.dtype == np.float32 and name not in _STAYS_WIDE:
            packed[name] = array.astype(np.float16)
        elif array.dtype == np.int32 and array.max(initial=0) < 2**16:
            packed[name] = array.astype(np.uint16)
        else:
            packed[name] = array
    return packed


def unpack(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The reverse of :func:`pack`: float32 and int32. Arrays that are wide already stay."""
    return {name: array.astype(_WIDE.get(array.dtype, array.dtype), copy=False)
            for name, array in arrays.items()}  # fmt: skip
