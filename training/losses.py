"""The losses: mainly distances in the picture, then pose, shape and coefficients."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from tddfa3.assets.face_model_data import FaceModelData
from tddfa3.coefficients import Coefficients, CoefficientSizes, split
from tddfa3.geometry.camera import project, rotation_matrix, to_camera

SURFACE_VERTICES, SURFACE_SEED = 400, 0
"""How many vertices the losses use beside the 68 landmarks, and the seed they are drawn with."""
CONTOUR, FEATURE, EYE, MOUTH = 1.5, 4.0, 5.0, 6.0
"""Weights of landmarks relative to a vertex of the surface."""
GAPS = ((61, 67), (62, 66), (63, 65), (37, 41), (38, 40), (43, 47), (44, 46))
"""Pairs across the lips and the lids. Their distances are a loss of their own, because an opening
of a few pixels has little weight among the errors of position."""
LIP_GAPS = slice(0, 3)
PIXELS_PER_UNIT = 101.5
NAMED_EXPRESSIONS = 28
"""Expression columns before the small random ones."""

WEIGHTS = {
    "points": 1.0,
    "shape": 0.6,
    "gaps": 0.5,
    "angle": 0.3,
    "exp": 1.0,
    "id": 0.15,
    "alb": 0.1,
    "sh": 0.3,
    "depth": 1.0,
}


class FaceLoss(nn.Module):
    """Compares predicted coefficients (B,total) with those of the pictures.

    Args:
        data: the 3DMM.
    """

    mean: Tensor
    basis: Tensor
    weight: Tensor
    gaps: Tensor

    def __init__(self, data: FaceModelData) -> None:
        super().__init__()
        self.sizes: CoefficientSizes = data.sizes
        random = np.random.default_rng(SURFACE_SEED)
        surface = random.choice(data.n_vertices, SURFACE_VERTICES, replace=False)
        index = np.concatenate([data.landmarks["68"], surface])
        bases = np.concatenate([data.id_basis, data.exp_basis], axis=2)[index]
        weight = torch.ones(len(index))
        weight[:17], weight[17:36], weight[36:48], weight[48:68] = CONTOUR, FEATURE, EYE, MOUTH
        self.register_buffer("mean", torch.from_numpy(data.mean_shape[index]))
        self.register_buffer("basis", torch.from_numpy(bases.reshape(len(index) * 3, -1)))
        self.register_buffer("weight", (weight / weight.mean())[:, None])
        self.register_buffer("gaps", torch.tensor(GAPS))

    def shape(self, coefficients: Coefficients) -> Tensor:
        """The landmarks, then the surface, in the model frame: (B,n,3)."""
        weights = torch.cat([coefficients.id, coefficients.exp], dim=1)
        return self.mean + (weights @ self.basis.t()).view(len(weights), *self.mean.shape)

    def points(self, coefficients: Coefficients, shape: Tensor) -> Tensor:
        """The vertices (B,n,3) projected: (B,n,2) crop pixels, y up."""
        rotation = rotation_matrix(coefficients.angle)
        return project(to_camera(shape, rotation, coefficients.trans))

    def forward(self, predicted: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Name to mean absolute difference, unweighted.

        ``points``, ``shape`` and ``gaps`` are in crop pixels (a model unit is 101.5), ``angle`` in
        degrees, the others in the units of their coefficients.
        """
        found, wanted = split(predicted, self.sizes), split(target, self.sizes)
        found_shape, wanted_shape = self.shape(found), self.shape(wanted)
        points = self.points(found, found_shape) - self.points(wanted, wanted_shape)
        shape = (found_shape - wanted_shape) * PIXELS_PER_UNIT
        gaps = (self._gaps(found_shape) - self._gaps(wanted_shape)) * PIXELS_PER_UNIT
        named = slice(0, NAMED_EXPRESSIONS)
        return {
            "points": (points.abs() * self.weight).mean(),
            "shape": (shape.abs() * self.weight).mean(),
            "gaps": gaps.abs().mean(),
            "angle": (found.angle - wanted.angle).abs().mean() * (180 / math.pi),
            "exp": (found.exp - wanted.exp)[:, named].abs().mean(),
            "id": (found.id - wanted.id).abs().mean(),
            "alb": (found.alb - wanted.alb).abs().mean(),
            "sh": (found.sh - wanted.sh).abs().mean(),
            "depth": (found.trans - wanted.trans)[:, 2].abs().mean(),
        }

    def total(self, parts: dict[str, Tensor]) -> Tensor:
        """The weighted sum of the losses."""
        return torch.stack([WEIGHTS[name] * part for name, part in parts.items()]).sum()

    def figures(self, predicted: Tensor, target: Tensor) -> dict[str, float]:
        """The evaluation's figures on renders: % of the eye distance, degrees, correlation."""
        found, wanted = split(predicted, self.sizes), split(target, self.sizes)
        found_shape, wanted_shape = self.shape(found), self.shape(wanted)
        points, reference = self.points(found, found_shape), self.points(wanted, wanted_shape)
        scale = (reference[:, 36] - reference[:, 45]).norm(dim=1)
        error = (points - reference)[:, :68].norm(dim=2).mean(dim=1) / scale
        turned = (found.angle - wanted.angle).abs().mean(dim=0) * (180 / math.pi)
        lips = [self._gaps(shape)[:, LIP_GAPS].mean(dim=1) for shape in (found_shape, wanted_shape)]
        opening = torch.corrcoef(torch.stack(lips))[0, 1]
        lids = [self._gaps(shape)[:, 3:].mean(dim=1) for shape in (found_shape, wanted_shape)]
        return {
            "mean": 100 * float(error.mean()),
            "yaw": float(turned[1]),
            "pitch": float(turned[0]),
            "opening": float(opening),
            "lids": float(torch.corrcoef(torch.stack(lids))[0, 1]),
        }

    def _gaps(self, shape: Tensor) -> Tensor:
        """(B, 7) distances across the lips and the lids, model units."""
        return (shape[:, self.gaps[:, 0]] - shape[:, self.gaps[:, 1]]).norm(dim=2)
