"""Fits light and skin colour to the photograph, starting from the network's prediction.

Given shape and albedo, a colour is linear in the light; given shape and light, it is linear in the
albedo. Both are therefore small least-squares problems over the visible skin. Ridge regression
keeps them near the prediction where the photograph says little, and robust weights reduce the
influence of hair, glasses and highlights.
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
"""Parts whose vertices are used."""
LEADING_ALBEDO = 5
"""How many albedo coefficients may change: those of the largest variance."""
FACING = 0.25
"""Least cosine between normal and view; vertices below it may show the background's colour."""
CLIPPED = 0.99
"""Vertices with a channel this bright, of 0..1, are left out as overexposed."""
OUTLIER = 0.08
"""Colour deviation, of 0..1, at which a vertex' weight has fallen to a half."""
ROUNDS = 3
"""Reweighting rounds per fit of the light."""
BAND_RIDGE = (5e-4, *[3e-3] * 3, *[1e-2] * 5)
"""Ridge per band: the variance of a colour that the model cannot explain over that of the band's
coefficient, per effective sample. A face says more about the lower bands."""
ALBEDO_RIDGE = 1e-3
"""The same for every albedo coefficient."""


class LightSolver(nn.Module):
    """Fits light and skin colour to crops. Its indices are buffers: ``.to(device)`` moves it.

    Attributes:
        skin: int64 (S,) the vertices used; all of them where a model has no skin parts.
        ridge: (9,) ridge per band.
    """

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
        """Fits ``sh`` and the leading coefficients of ``alb`` to the colours.

        Args:
            colors: (B, V, 3) RGB 0..1 of the photograph at the projected vertices.
            visible: bool (B, V).
            normals: (B, V, 3) unit, rotated.
            coefficients: the network's prediction.
            model: provides the albedo.

        Returns:
            the fitted coefficients; unchanged for a face without usable skin.
        """
        seen = colors[:, self.skin]  # (B, S, 3)
        normals = normals[:, self.skin]  # (B, S, 3)
        bands = sh_bands(normals)  # (B, S, 9)
        usable = visible[:, self.skin] & (normals[..., 2] > FACING) & (seen < CLIPPED).all(dim=2)
        weights = usable.to(seen.dtype)  # (B, S)

        basis = model.albedo_basis.view(model.n_vertices, 3, -1)[self.skin] / 255
        basis = basis[..., :LEADING_ALBEDO]  # (S, 3, K)
        alb = coefficients.alb.clone()  # (B, n_alb)
        # White light first, so that the photograph's colour is attributed to the skin; the colour
        # of the light explains what remains.
        grey = coefficients.sh.view(-1, 3, 9).mean(dim=1, keepdim=True).expand(-1, 3, 9)
        sh = grey.flatten(1)  # (B, 27)
        for white in (True, False):
            albedo = model.albedo(alb)[:, self.skin]  # (B, S, 3)
            sh = self._light(seen, albedo, bands, weights, sh, white=white)
            if white:
                light = sh_shading(normals, sh)  # (B, S, 3)
                alb[:, : basis.shape[2]] += self._albedo(seen, albedo, basis, light, weights)
        told = usable.any(dim=1, keepdim=True)  # (B, 1)
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
        """Spherical harmonics (B, 27); with ``white``, one set of nine for all channels."""
        prior = prior.view(-1, 3, 9)
        design = albedo.transpose(1, 2)[..., None] * bands[:, None]  # (B, 3, S, 9)
        target = seen.transpose(1, 2) - SH_AMBIENT * design[..., 0]  # (B, 3, S)
        if white:
            # The channels become samples of one problem: (B, 1, 3 S, 9) and (B, 1, 3 S).
            prior, channels = prior.mean(dim=1, keepdim=True), 3
            design, target = design.flatten(1, 2)[:, None], target.flatten(1)[:, None]
        else:
            channels = 1
        solution = prior  # (B, 3, 9), with ``white`` (B, 1, 9)
        for _ in range(ROUNDS):
            residual = target - (design @ solution[..., None])[..., 0]
            used = _reweighted(weights, residual.view(len(seen), 3, -1)).repeat(1, channels)
            solution = _ridge(design, target, used[:, None], self.ridge, prior)
        return solution.expand(-1, 3, 9).flatten(1)

    def _albedo(
        self, seen: Tensor, albedo: Tensor, basis: Tensor, light: Tensor, weights: Tensor
    ) -> Tensor:
        """The change (B, K) of the leading albedo coefficients."""
        design = (light[..., None] * basis).flatten(1, 2)  # (B, 3 S, K)
        target = seen - albedo * light  # (B, S, 3)
        used = _reweighted(weights, target.transpose(1, 2)).repeat_interleave(3, dim=1)  # (B, 3 S)
        zero = design.new_zeros(len(design), design.shape[2])  # (B, K)
        ridge = torch.full_like(zero[0], ALBEDO_RIDGE)  # (K,)
        return _ridge(design, target.flatten(1), used, ridge, zero)


def _reweighted(weights: Tensor, residual: Tensor) -> Tensor:
    """Cauchy weights (B, S) from ``weights`` (B, S) and ``residual`` (B, 3, S)."""
    return weights / (1 + residual.square().mean(dim=1) / OUTLIER**2)


def _ridge(design: Tensor, target: Tensor, weights: Tensor, ridge: Tensor, prior: Tensor) -> Tensor:
    """Weighted ridge regression towards ``prior``; leading dimensions are a batch.

    Args:
        design: (..., N, K).
        target: (..., N).
        weights: (..., N), not negative.
        ridge: (K,) penalty relative to the weighted mean of the squared residuals.
        prior: (..., K).

    Returns:
        (..., K); the prior where all weights are 0.
    """
    weighted = design * (weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-6))[..., None]
    # (..., K, K), solved in float64.
    normal = (weighted.transpose(-1, -2) @ design).double() + torch.diag(ridge).double()
    missing = target - (design @ prior[..., None])[..., 0]  # (..., N)
    right = (weighted.transpose(-1, -2) @ missing[..., None]).double()  # (..., K, 1)
    return prior + torch.linalg.solve(normal, right)[..., 0].to(prior.dtype)
