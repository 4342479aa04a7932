"""The landmark sets 68, 106, 106_2d and 134: which vertices they are, and where those lie.

68, 106 and 134 are fixed vertices, so their contour goes behind the cheek of a turned head.
106_2d keeps the contour on the silhouette by landmark marching (Zhu et al. 2015, "High-Fidelity
Pose and Expression Normalization for Face Recognition in the Wild").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tddfa3.conventions import CROP_SIZE, LANDMARK_SETS
from tddfa3.geometry.camera import project, rotation_matrix, to_camera

if TYPE_CHECKING:
    from tddfa3.assets.face_model_data import FaceModelData
    from tddfa3.geometry.face_model import Geometry

CHIN = 16
"""Of the 33 contour points 0..15 lie on the image's left, 16 is the chin, 17..32 on the right."""
CONTOUR = 2 * CHIN + 1


class LandmarkIndex(nn.Module):
    """Vertex indices of the landmark sets, as buffers: ``.to(device)`` moves them."""

    marching_rows: Tensor
    marching_side: Tensor

    def __init__(self, data: FaceModelData) -> None:
        super().__init__()
        for name in ("68", "106", "134"):
            index = torch.tensor(data.landmarks[name], dtype=torch.int64)
            self.register_buffer(f"vertices_{name}", index, persistent=False)
        rows = marching_rows(data.parallel, data.landmarks["106"][:CONTOUR], data.n_vertices)
        side = np.repeat(np.array([1, -1], dtype=np.float32), CHIN)
        self.register_buffer("marching_rows", torch.from_numpy(rows), persistent=False)
        self.register_buffer("marching_side", torch.from_numpy(side)[:, None], persistent=False)

    def indices(self, name: str, geometry: Geometry) -> Tensor:
        """Vertices of a set's landmarks, per face.

        Args:
            name: one of ``LANDMARK_SETS``.
            geometry: B faces; only 106_2d looks at more than their number.

        Returns:
            int64 (B, N).

        Raises:
            ValueError: another name.
        """
        if name not in LANDMARK_SETS:
            raise ValueError(f"landmarks: {name!r} is not one of {', '.join(LANDMARK_SETS)}")
        fixed: Tensor = getattr(self, f"vertices_{name.removesuffix('_2d')}")
        fixed = fixed.expand(len(geometry), -1)
        return self._march(fixed, geometry) if name == "106_2d" else fixed

    def _march(self, fixed: Tensor, geometry: Geometry) -> Tensor:
        """``fixed`` (B, 106) with its contour moved to the silhouette.

        With roll removed, a parallel runs level, and its outermost vertex in x is the silhouette.
        """
        angle = geometry.coefficients.angle.clone()
        angle[:, 2] = 0.0
        candidates = geometry.shape[:, self.marching_rows.flatten()]
        level = to_camera(candidates, rotation_matrix(angle), geometry.coefficients.trans)
        x = project(level)[..., 0].view(len(fixed), *self.marching_rows.shape)
        # argmin takes the first of equals; rows are sorted, so ties go to the lowest vertex.
        outermost = (x * self.marching_side).argmin(dim=2)
        contour = self.marching_rows.expand_as(x).gather(2, outermost[..., None])[..., 0]
        left, right = contour.split(CHIN, dim=1)
        return torch.cat([left, fixed[:, CHIN : CHIN + 1], right, fixed[:, CONTOUR:]], dim=1)


def marching_rows(
    parallel: tuple[NDArray[np.integer], ...], contour: NDArray[np.integer], n_vertices: int
) -> NDArray[np.int64]:
    """The parallels as one table, without the chin's: row i holds what contour point i may become.

    Args:
        parallel: 33 lists of vertices, image's left to right by way of the chin.
        contour: (33,) the fixed contour landmarks.

    Returns:
        (32, P) vertices in rising order, padded with the row's first one, which changes no minimum.
    """
    # A vertex listed by two parallels belongs to the later one: upstream's table has one entry per
    # vertex.
    owner = np.full(n_vertices, -1)
    for i, row in enumerate(parallel):
        owner[row] = i
    rows = [np.flatnonzero(owner == i) for i in range(CONTOUR) if i != CHIN]
    # A parallel left without vertices (coarse topologies) keeps the fixed landmark.
    rows = [
        row if len(row) else fixed[None]
        for row, fixed in zip(rows, np.delete(contour, CHIN).astype(np.int64), strict=True)
    ]
    longest = max(map(len, rows))
    return np.stack([np.pad(row, (0, longest - len(row)), constant_values=row[0]) for row in rows])


def gather(points: Tensor, index: Tensor) -> Tensor:
    """Pick landmarks out of per-vertex values.

    Args:
        points: (B, V, C).
        index: int64 (B, N), of :meth:`LandmarkIndex.indices`.

    Returns:
        (B, N, C).

    Raises:
        ValueError: shapes that do not fit.
    """
    if points.ndim != 3 or index.ndim != 2 or len(points) != len(index):
        raise ValueError(
            f"points {tuple(points.shape)} and index {tuple(index.shape)} must be (B, V, C) and "
            "(B, N) with one B"
        )
    return points.gather(1, index[..., None].expand(-1, -1, points.shape[2]))


def to_crop_pixels(points: Tensor) -> Tensor:
    """Crop frame, y up, (..., 2) to crop pixels, y down: (x, 223 - y).

    223 and not 224 is upstream's convention, kept so that landmarks are equal to its own; masks use
    pixel centres and lie half a pixel away from it.

    Raises:
        ValueError: another last dimension.
    """
    if points.ndim < 1 or points.shape[-1] != 2:
        raise ValueError(f"points must have shape (..., 2), not {tuple(points.shape)}")
    return torch.stack([points[..., 0], (CROP_SIZE - 1) - points[..., 1]], dim=-1)
