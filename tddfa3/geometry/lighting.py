"""Light and skin colour, solved on the photograph instead of predicted.

Given shape and albedo, a colour is linear in the light; given shape and light, it is linear in the
albedo. So both are small least-squares problems over the visible skin, kept near the network's
prediction (ridge) where the photograph says little, and reweighted so that hair, glasses and
highlights count for little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from tddfa3.coefficients import Coefficients
from tddfa3.geometry.face_model import SH_AMBIENT, FaceModel, sh_bands, sh_shading

if TYPE_CHECKING:
    from tddfa3.assets.face_model_data import FaceModelData

SKIN_PARTS = ("skin", "nose")
LEADING_ALBEDO = 5
"""Coefficients of albedo that may move: those of the largest variance."""
FACING = 0.25
"""Least cosine between a vertex' normal and the view: beyond it colours are the background's."""
CLIPPED = 0.99
"""A channel this bright tells that there was light enough, and not how much."""
OUTLIER = 0.08
"""Deviation of a colour, of 0..1, from which on its vertex counts for less than half."""
ROUNDS = 3
# Variance of a colour that the model cannot explain over that of a coefficient, per effective
# sample: the lower the band, the more a face tells of it.
BAND_RIDGE = (5e-4, *[3e-3] * 3, *[1e-2] * 5)
ALBEDO_RIDGE = 1e-3


class LightSolver(nn.Module):
    """Fits light and skin colour to crops. Its indices are buffers: ``.to(device)`` moves it."""

    skin: Tensor
    ridge: Tensor

    def __init__(self, data: FaceModelData) -> None:
        super().__init__()
        named = dict(zip(data.part_names, data.part_vertices, strict=True))
        parts = [named[name] for name in SKIN_PARTS if name in named]
        skin = np.unique(np.concatenate(parts)) if parts else np.arange(data.n_vertices)
        self.register_buffer("skin", torch.from_numpy(skin.astype(np.int64)), persistent=False)
        self.register_buffer("ridge", torch.tensor(BAND_RIDGE), persistent=False)

    @torch.no_grad()
    def forward(
        self,
        colors: Tensor,
        visible: Tensor,
        normals: Tensor,
        coefficients: Coefficients,
        model: FaceModel,
    ) -> Coefficients:
        """The coefficients with ``sh``, and the leading ones of ``alb``, fitted to the colours.

        Args:
            colors: (B, V, 3) RGB 0..1 of the photograph at the projected vertices.
            visible: bool (B, V).
            normals: (B, V, 3) unit, rotated.
            coefficients: the network's; returned unchanged for a face without visible skin.
            model: for the albedo.
        """
        seen = colors[:, self.skin]
        normals = normals[:, self.skin]
        bands = sh_bands(normals)
        usable = visible[:, self.skin] & (normals[..., 2] > FACING) & (seen < CLIPPED).all(dim=2)
        weights = usable.to(seen.dtype)

        basis = model.albedo_basis.view(model.n_vertices, 3, -1)[self.skin] / 255
        basis = basis[..., :LEADING_ALBEDO]
        alb = coefficients.alb.clone()
        # White light first, so that the photograph's colour goes to the skin; colour of the light
        # is what is then left over.
        grey = coefficients.sh.view(-1, 3, 9).mean(dim=1, keepdim=True).expand(-1, 3, 9)
        sh = grey.flatten(1)
        for white in (True, False):
            albedo = model.albedo(alb)[:, self.skin]
            sh = self._light(seen, albedo, bands, weights, sh, white=white)
            if white:
                light = sh_shading(normals, sh)
                alb[:, : basis.shape[2]] += self._albedo(seen, albedo, basis, light, weights)
        told = usable.any(dim=1, keepdim=True)
        return coefficients._replace(
            alb=torch.where(told, alb, coefficients.alb), sh=torch.where(told, sh, coefficients.sh)
        )

    def _light(
        self,
        seen: Tensor,
        albedo: Tensor,
        bands: Tensor,
        weights: Tensor,
        prior: Tensor,
        *,
        white: bool,
    ) -> Tensor:
        """Spherical harmonics (B, 27); ``white``: the same in all channels."""
        prior = prior.view(-1, 3, 9)
        # Per channel (B, 3, V, 9) and (B, 3, V).
        design = albedo.transpose(1, 2)[..., None] * bands[:, None]
        target = seen.transpose(1, 2) - SH_AMBIENT * design[..., 0]
        if white:
            prior, channels = prior.mean(dim=1, keepdim=True), 3
            design, target = design.flatten(1, 2)[:, None], target.flatten(1)[:, None]
        else:
            channels = 1
        solution = prior
        for _ in range(ROUNDS):
            residual = target - (design @ solution[..., None])[..., 0]
            used = _reweighted(weights, residual.view(len(seen), 3, -1)).repeat(1, channels)
            solution = _ridge(design, target, used[:, None], self.ridge, prior)
        return solution.expand(-1, 3, 9).flatten(1)

    def _albedo(
        self, seen: Tensor, albedo: Tensor, basis: Tensor, light: Tensor, weights: Tensor
    ) -> Tensor:
        """What to add to the leading albedo coefficients (B, K)."""
        design = (light[..., None] * basis).flatten(1, 2)
        target = seen - albedo * light
        used = _reweighted(weights, target.transpose(1, 2)).repeat_interleave(3, dim=1)
        zero = design.new_zeros(len(design), design.shape[2])
        ridge = torch.full_like(zero[0], ALBEDO_RIDGE)
        return _ridge(design, target.flatten(1), used, ridge, zero)


def _reweighted(weights: Tensor, residual: Tensor) -> Tensor:
    """Cauchy's weights of vertices: ``weights`` (B, V), ``residual`` (B, 3, V)."""
    return weights / (1 + residual.square().mean(dim=1) / OUTLIER**2)


def _ridge(design: Tensor, target: Tensor, weights: Tensor, ridge: Tensor, prior: Tensor) -> Tensor:
    """Weighted least squares around ``prior``; all that leads is a batch.

    Args:
        design: (..., N, K). target: (..., N). weights: (..., N).
        ridge: (K,) against the mean square of the weighted residuals.
        prior: (..., K).

    Returns:
        (..., K); the prior where there is no weight.
    """
    weighted = design * (weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-6))[..., None]
    normal = (weighted.transpose(-1, -2) @ design).double() + torch.diag(ridge).double()
    missing = target - (design @ prior[..., None])[..., 0]
    right = (weighted.transpose(-1, -2) @ missing[..., None]).double()
    return prior + torch.linalg.solve(normal, right)[..., 0].to(prior.dtype)
