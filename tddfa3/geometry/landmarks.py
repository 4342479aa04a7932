"""The landmark sets 68, 106, 106_2d and 134 as vertices of the mesh.

68, 106 and 134 are fixed vertices, so on a turned head part of their contour is hidden behind the
cheek. 106_2d keeps the contour on the silhouette by landmark marching (Zhu et al. 2015,
"High-Fidelity Pose and Expression Normalization for Face Recognition in the Wild").
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
"""Index of the chin among the contour points; those before it lie on the image's left."""
CONTOUR = 2 * CHIN + 1
"""Number of contour points, the first landmarks of the sets of 106."""


class LandmarkIndex(nn.Module):
    """Vertex indices of the landmark sets, as buffers: ``.to(device)`` moves them.

    Attributes:
        marching_rows: int64 (32, P), see :func:`marching_rows`.
        marching_side: float32 (32, 1), 1 for the image's left, -1 for its right.
    """

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
            geometry: B faces; the fixed sets use only their number.

        Returns:
            int64 (B, N).

        Raises:
            ValueError: If ``name`` is unknown.
        """
        if name not in LANDMARK_SETS:
            raise ValueError(f"landmarks: {name!r} is not one of {', '.join(LANDMARK_SETS)}")
        fixed: Tensor = getattr(self, f"vertices_{name.removesuffix('_2d')}")
        fixed = fixed.expand(len(geometry), -1)
        return self._march(fixed, geometry) if name == "106_2d" else fixed

    def _march(self, fixed: Tensor, geometry: Geometry) -> Tensor:
        """``fixed`` (B, 106) with its contour moved to the silhouette.

        Without roll a parallel is horizontal, so its outermost vertex in x is on the silhouette.
        """
        angle = geometry.coefficients.angle.clone()  # (B, 3)
        angle[:, 2] = 0.0
        candidates = geometry.shape[:, self.marching_rows.flatten()]  # (B, 32 P, 3)
        level = to_camera(candidates, rotation_matrix(angle), geometry.coefficients.trans)
        x = project(level)[..., 0].view(len(fixed), *self.marching_rows.shape)  # (B, 32, P)
        # argmin takes the first of equals; rows are sorted, so ties go to the lowest vertex.
        outermost = (x * self.marching_side).argmin(dim=2)  # (B, 32)
        contour = self.marching_rows.expand_as(x).gather(2, outermost[..., None])[..., 0]
        left, right = contour.split(CHIN, dim=1)  # each (B, 16)
        return torch.cat([left, fixed[:, CHIN : CHIN + 1], right, fixed[:, CONTOUR:]], dim=1)


def marching_rows(
    parallel: tuple[NDArray[np.integer], ...], contour: NDArray[np.integer], n_vertices: int
) -> NDArray[np.int64]:
    """The vertices that each contour point may move to, as one table without the chin.

    Args:
        parallel: 33 lists of vertices, from the image's left over the chin to its right.
        contour: (33,) the fixed contour landmarks.
        n_vertices: number of the mesh's vertices.

    Returns:
        (32, P) vertices in rising order, padded with the row's first one, which leaves the minimum
        unchanged.
    """
    # A vertex listed by two parallels belongs to the later one: upstream's table has one entry per
    # vertex.
    owner = np.full(n_vertices, -1)  # (V,) the vertex' parallel
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
        index: int64 (B, N), from :meth:`LandmarkIndex.indices`.

    Returns:
        (B, N, C).

    Raises:
        ValueError: If the shapes do not fit together.
    """
    if points.ndim != 3 or index.ndim != 2 or len(points) != len(index):
        raise ValueError(
            f"points {tuple(points.shape)} and index {tuple(index.shape)} must be (B, V, C) and "
            "(B, N) with one B"
        )
    return points.gather(1, index[..., None].expand(-1, -1, points.shape[2]))


def to_crop_pixels(points: Tensor) -> Tensor:
    """Crop frame, y up, to crop pixels, y down: (x, 223 - y).

    Upstream subtracts from 223 rather than 224, and so does this, to give the same landmarks. Masks
    use pixel centres, which is half a pixel away.

    Args:
        points: (..., 2) crop frame, y up.

    Returns:
        (..., 2) crop pixels, y down.

    Raises:
        ValueError: If the last dimension differs.
    """
    if points.ndim < 1 or points.shape[-1] != 2:
        raise ValueError(f"points must have shape (..., 2), not {tuple(points.shape)}")
    return torch.stack([points[..., 0], (CROP_SIZE - 1) - points[..., 1]], dim=-1)
