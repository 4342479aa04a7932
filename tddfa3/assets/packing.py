"""Small storage for a face model's arrays; everything that reads a bundle gets them back wide.

Floats are kept as float16, the bases, if asked for, as bytes with one scale for each column, and
indices as 16 bits where they fit.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tddfa3.assets.face_model_data import Array

_SCALE = ".scale"
_LARGEST_BYTE = 127


def pack(arrays: Mapping[str, Array], as_bytes: tuple[str, ...] = ()) -> dict[str, Array]:
    """The arrays of :meth:`FaceModelData.to_arrays` in less space.

    float32 becomes float16, int32 becomes uint16 where no value is too large; float64 stays. Of the
    names in ``as_bytes``, (V, 3, n) arrays, each column becomes int8, and its scale the array
    ``NAME.scale``, float32 (n,).
    """
    packed: dict[str, Array] = {}
    for name, array in arrays.items():
        if name in as_bytes:
            scale = np.abs(array).max(axis=(0, 1)).astype(np.float32) / _LARGEST_BYTE
            # A column of zeros has no scale of its own.
            packed[name] = np.rint(array / np.where(scale > 0, scale, 1)).astype(np.int8)
            packed[name + _SCALE] = scale
        elif array.dtype == np.float32:
            packed[name] = array.astype(np.float16)
        elif array.dtype == np.int32 and array.max(initial=0) < 2**16:
            packed[name] = array.astype(np.uint16)
        else:
            packed[name] = array
    return packed


def unpack(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The reverse of :func:`pack`: float32 and int32. Arrays that are wide already stay.

    Raises:
        ValueError: a scale that does not belong to its array.
    """
    wide: dict[str, Array] = {}
    for name, array in arrays.items():
        if name.endswith(_SCALE):
            continue
        if name + _SCALE in arrays:
            scale = arrays[name + _SCALE]
            if array.dtype != np.int8 or scale.shape != array.shape[-1:]:
                raise ValueError(f"{name} {array.dtype} {array.shape} has a scale {scale.shape}")
            wide[name] = array * scale.astype(np.float32)
        elif array.dtype == np.float16:
            wide[name] = array.astype(np.float32)
        elif array.dtype == np.uint16:
            wide[name] = array.astype(np.int32)
        else:
            wide[name] = array
    return wide
