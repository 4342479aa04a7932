"""Renders of the face, interpolated over its existing rasterization."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tddfa3.geometry.batch import FaceBatch
from tddfa3.geometry.face_model import directional_shading
from tddfa3.rasterize import Rasterizer


def render(name: str, rasterizer: Rasterizer, triangles: Tensor, batch: FaceBatch) -> Tensor:
    """Renders one picture per face, 0 outside the face.

    Args:
        name: "face", the PCA texture under the estimated light, RGB 0..1; "shape", grey under
            five directional lights, RGB 0..1; "depth", distance from the camera in model units;
            "normals", unit vectors, x right, y up, z towards the camera.
        rasterizer: the one that drew ``batch.raster``.
        triangles: int32 (T, 3).
        batch: B faces, rasterized; "face" needs ``batch.colors["pca"]``.

    Returns:
        float32 (B, H, W, 3), for "depth" (B, H, W, 1); row 0 is the top.

    Raises:
        KeyError: If ``name`` is another.
    """
    attribute = {  # (B, V, 3), for "depth" (B, V, 1)
        "face": lambda: batch.colors["pca"],
        "shape": lambda: directional_shading(batch.geometry.normals),
        "depth": lambda: batch.geometry.camera[..., 2:],
        "normals": lambda: batch.geometry.normals,
    }[name]()  # (B, V, C)
    picture = rasterizer.interpolate(attribute.contiguous(), batch.raster, triangles)
    return normalize(picture, dim=-1) if name == "normals" else picture


def to_uint8(picture: Tensor) -> Tensor:
    """A float picture, 0..1, to uint8 0..255 of the same shape; truncated, as upstream does."""
    return (picture.clamp(0, 1) * 255).to(torch.uint8)
