"""The synthetic face model, as the dictionary that upstream's ``face_model.npy`` holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tddfa3.assets.generators.synthetic.bases import (
    albedo_basis,
    expression_basis,
    identity_basis,
    smooth_fields,
)
from tddfa3.assets.generators.synthetic.landmarks import contour_and_parallel, landmark_vertices
from tddfa3.assets.generators.synthetic.lattice import (
    Lattice,
    make_lattice,
    triangles_around_vertices,
)
from tddfa3.assets.generators.synthetic.seeded import (
    BoolArray,
    FloatArray,
    IntArray,
    NamedRandom,
    round_significant,
)
from tddfa3.assets.generators.synthetic.shape import mean_albedo, mean_shape, part_masks


def synthetic_face_model(random: NamedRandom, vertices: int) -> dict[str, Any]:
    """Keys, shapes and ranges of upstream's face model, for a face of ``vertices`` vertices."""
    lattice = make_lattice(vertices)
    masks = part_masks(lattice)
    blotches = smooth_fields(random("alb_mean"), 3, lattice.plane, 0.5)[:, 0]
    contour, parallel = contour_and_parallel(lattice)
    return face_dictionary(
        lattice,
        shape=mean_shape(lattice),
        bases=(identity_basis(random, lattice), expression_basis(random, lattice)),
        albedo=mean_albedo(lattice, masks, blotches),
        albedo_basis=albedo_basis(random, lattice),
        masks=masks,
        landmarks=landmark_vertices(lattice, contour),
        parallel=parallel,
    )


def face_dictionary(
    lattice: Lattice,
    *,
    shape: FloatArray,
    bases: tuple[FloatArray, FloatArray],
    albedo: FloatArray,
    albedo_basis: FloatArray,
    masks: list[BoolArray],
    landmarks: dict[str, IntArray],
    parallel: list[IntArray],
) -> dict[str, Any]:
    """A face on a lattice, under the names of upstream's ``face_model.npy``, rounded.

    Args:
        lattice: of V vertices.
        shape: (V, 3) mean shape.
        bases: identity (3V, n) and expression (3V, m).
        albedo: (V, 3) mean RGB 0..255, before clipping.
        albedo_basis: (3V, k).
        masks: for each of the eight parts bool (V,).
        landmarks: vertices of each landmark set.
        parallel: 33 rows of vertices for landmark marching.

    Returns:
        the arrays by upstream's names.
    """
    triangles = lattice.triangles
    return {
        "u": _float32(shape.reshape(-1, 1), 6),
        "id": _float32(bases[0], 7),
        "exp": _float32(bases[1], 7),
        "u_alb": _float32(np.clip(albedo, 0, 255).reshape(-1, 1), 3),
        "alb": _float32(albedo_basis, 5),
        "point_buf": triangles_around_vertices(triangles, lattice.size),
        "tri": triangles,
        "uv_coords": _float32(_uv(lattice), 6),
        **{f"ldm{name}": index.astype(np.int64) for name, index in landmarks.items()},
        "annotation": [np.flatnonzero(mask).astype(np.int64) for mask in masks],
        "annotation_tri": [triangles[mask[triangles].sum(1) >= 2] for mask in masks],
        "parallel": parallel,
    }


def _float32(values: FloatArray, decimals: int) -> npt.NDArray[np.float32]:
    return np.round(values, decimals).astype(np.float32)


def _uv(lattice: Lattice) -> FloatArray:
    """The flat lattice as a chart that stays off the border of the texture."""
    return np.stack([0.5 + lattice.around / (2 * 1.10), 0.5 + lattice.up / (2 * 1.22)], 1)


def similarity_landmarks(model: dict[str, Any]) -> FloatArray:
    """(68,3) mean landmarks, y up: what upstream's ``similarity_Lm3D_all.mat`` holds."""
    mean = model["u"].reshape(-1, 3).astype(np.float64)
    return mean[model["ldm68"]]


def landmark_crop_places(model: dict[str, Any]) -> FloatArray:
    """(106,2) where the mean face's landmarks fall in the 106-point network's square crop.

    x right, y down, 0..1; the crop is the landmarks' box enlarged by 1.35.
    """
    points = model["u"].reshape(-1, 3).astype(np.float64)[model["ldm106"]]
    depth = 10 - points[:, 2]
    projected = np.stack([points[:, 0] / depth, -points[:, 1] / depth], 1)
    low, high = projected.min(0), projected.max(0)
    centred = (projected - (low + high) / 2) / ((high - low).max() * 1.35)
    return round_significant(centred + 0.5, 4)
