"""The 3DMM's arrays, their validation, and their layout in safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tddfa3.coefficients import CoefficientSizes
from tddfa3.conventions import LANDMARK_COUNTS

Array: TypeAlias = npt.NDArray[Any]

N_PARALLEL = 33
"""Number of contour rows for landmark marching, one per contour point."""


@dataclass(frozen=True)
class FaceModelData:
    """A 3D morphable model of V vertices and T triangles, C-contiguous NumPy arrays.

    Model frame: x to the image's right, y up, z towards the camera; 1 unit is about 101.5 crop
    pixels. "Right" in a part's name is the subject's.

    Attributes:
        mean_shape: float32 (V, 3).
        id_basis: float32 (V, 3, n_id), per standard deviation.
        exp_basis: float32 (V, 3, n_exp).
        mean_albedo: float32 (V, 3), RGB 0..255.
        albedo_basis: float32 (V, 3, n_alb), in the same units.
        triangles: int32 (T, 3).
        vertex_triangles: int32 (V, K), the triangles around each vertex, padded with T.
        uv: float32 (V, 2), 0..1, v up.
        landmarks: "68", "106" and "134" to their vertices, int32.
        part_names: names of the P parts.
        part_vertices: for each part its vertices, int32 (n,).
        part_triangles: for each part its triangles, int32 (n, 3).
        parallel: 33 contour rows for landmark marching, int32 vertex indices.
        standard_points: float64 (5, 3), the standard face's left eye, right eye (viewer's), nose
            tip, left and right mouth corner, y up.

    Raises:
        ValueError: Naming the array, if a shape or dtype differs, a value is not finite, or an
            index is out of bounds.
    """

    mean_shape: Array
    id_basis: Array
    exp_basis: Array
    mean_albedo: Array
    albedo_basis: Array
    triangles: Array
    vertex_triangles: Array
    uv: Array
    landmarks: dict[str, Array]
    part_names: tuple[str, ...]
    part_vertices: tuple[Array, ...]
    part_triangles: tuple[Array, ...]
    parallel: tuple[Array, ...]
    standard_points: Array

    def __post_init__(self) -> None:
        _check(self)

    @property
    def n_vertices(self) -> int:
        """V, the number of vertices."""
        return len(self.mean_shape)

    @property
    def n_triangles(self) -> int:
        """T, the number of triangles."""
        return len(self.triangles)

    @property
    def sizes(self) -> CoefficientSizes:
        """How many coefficients of each kind there are."""
        return CoefficientSizes(
            id=self.id_basis.shape[2], exp=self.exp_basis.shape[2], alb=self.albedo_basis.shape[2]
        )

    def to_arrays(self, *, compact: bool = False) -> dict[str, Array]:
        """Flattens the data for safetensors: lists become ``part_vertices.0``, ``parallel.00``, ….

        Args:
            compact: halve the size by rounding bases to float16 (a relative error of 0.05 %) and
                storing indices below 65,536 as uint16. :meth:`from_arrays` widens both again.

        Returns:
            the arrays by name.
        """
        arrays = {name: getattr(self, name) for name in _PLAIN}
        arrays |= {f"landmarks.{name}": index for name, index in self.landmarks.items()}
        arrays |= {f"part_vertices.{i}": index for i, index in enumerate(self.part_vertices)}
        arrays |= {f"part_triangles.{i}": index for i, index in enumerate(self.part_triangles)}
        arrays |= {f"parallel.{i:02d}": index for i, index in enumerate(self.parallel)}
        if compact:
            return {name: _narrowed(name, array) for name, array in arrays.items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], part_names: tuple[str, ...]) -> FaceModelData:
        """The inverse of :meth:`to_arrays`.

        Args:
            arrays: by name; may be compact.
            part_names: names of the parts, which the arrays do not include.

        Returns:
            the validated data.

        Raises:
            KeyError: If an array is missing.
            ValueError: If an array is invalid.
        """
        arrays = {name: _widened(array) for name, array in arrays.items()}
        parts = range(len(part_names))
        return cls(
            **{name: arrays[name] for name in _PLAIN},
            landmarks={name: arrays[f"landmarks.{name}"] for name in LANDMARK_COUNTS},
            part_names=part_names,
            part_vertices=tuple(arrays[f"part_vertices.{i}"] for i in parts),
            part_triangles=tuple(arrays[f"part_triangles.{i}"] for i in parts),
            parallel=tuple(arrays[f"parallel.{i:02d}"] for i in range(N_PARALLEL)),
        )


_PLAIN = (
    "mean_shape",
    "id_basis",
    "exp_basis",
    "mean_albedo",
    "albedo_basis",
    "triangles",
    "vertex_triangles",
    "uv",
    "standard_points",
)
_BASES = ("id_basis", "exp_basis", "albedo_basis")


def _narrowed(name: str, array: Array) -> Array:
    if name in _BASES:
        return array.astype(np.float16)
    if array.dtype == np.int32 and array.max() <= np.iinfo(np.uint16).max:
        return array.astype(np.uint16)
    return array


def _widened(array: Array) -> Array:
    wide = {np.dtype(np.float16): np.float32, np.dtype(np.uint16): np.int32}
    return array.astype(wide.get(array.dtype, array.dtype), copy=False)


def _check(data: FaceModelData) -> None:
    vertices, triangles = len(data.mean_shape), len(data.triangles)
    _check_floats("mean_shape", data.mean_shape, (vertices, 3))
    _check_floats("mean_albedo", data.mean_albedo, (vertices, 3))
    for name in _BASES:
        _check_floats(name, getattr(data, name), (vertices, 3, None))
    _check_floats("uv", data.uv, (vertices, 2))
    _check_floats("standard_points", data.standard_points, (5, 3), np.float64)
    _check_indices("triangles", data.triangles, (None, 3), vertices)
    # The padding value T refers to the zero normal that is appended to the triangles' normals.
    _check_indices("vertex_triangles", data.vertex_triangles, (vertices, None), triangles + 1)
    for name, count in LANDMARK_COUNTS.items():
        _check_indices(f"landmarks[{name!r}]", data.landmarks[name], (count,), vertices)
    if not len(data.part_names) == len(data.part_vertices) == len(data.part_triangles):
        raise ValueError(
            f"{len(data.part_names)} part_names, {len(data.part_vertices)} part_vertices and "
            f"{len(data.part_triangles)} part_triangles; the counts must be equal"
        )
    for i, name in enumerate(data.part_names):
        _check_indices(f"part_vertices of {name}", data.part_vertices[i], (None,), vertices)
        _check_indices(f"part_triangles of {name}", data.part_triangles[i], (None, 3), vertices)
    if len(data.parallel) != N_PARALLEL:
        raise ValueError(f"parallel has {len(data.parallel)} rows, not {N_PARALLEL}")
    for i, row in enumerate(data.parallel):
        _check_indices(f"parallel[{i}]", row, (None,), vertices)


def _check_shape(name: str, array: Array, shape: tuple[int | None, ...]) -> None:
    fits = array.ndim == len(shape) and all(
        want is None or want == have for want, have in zip(shape, array.shape, strict=True)
    )
    if not fits or array.size == 0:
        wanted = ", ".join("n > 0" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} has shape {array.shape}, not ({wanted})")
    if not array.flags.c_contiguous:
        raise ValueError(f"{name} is not C-contiguous")


def _check_floats(
    name: str,
    array: Array,
    shape: tuple[int | None, ...],
    dtype: type[np.floating[Any]] = np.float32,
) -> None:
    _check_shape(name, array, shape)
    if array.dtype != dtype:
        raise ValueError(f"{name} is {array.dtype}, not {dtype.__name__}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has values that are not finite")


def _check_indices(name: str, array: Array, shape: tuple[int | None, ...], end: int) -> None:
    _check_shape(name, array, shape)
    if array.dtype != np.int32:
        raise ValueError(f"{name} is {array.dtype}, not int32")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= end:
        raise ValueError(f"{name} has indices {low}..{high}; they must lie in 0..{end - 1}")
