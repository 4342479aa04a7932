"""A flat picture of the mean face, on which features are painted at the landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch

from tddfa3.assets.face_model_data import FaceModelData
from tddfa3.assets.generators.open_face import face_plane
from tddfa3.rasterize.cpu import CpuRasterizer

Floats = npt.NDArray[np.floating]

TEXTURE_SIZE = 384
"""Side S of a face's texture, in pixels."""
COARSE_SIZE = 64
"""Side C of the grid of the albedo basis, which is smooth and is enlarged from it."""


@dataclass(frozen=True)
class FaceChart:
    """The plane of the texture: x right, y up, in model units, as in :func:`face_plane`.

    Attributes:
        x: (S,S) x of every texture pixel, row 0 at the top.
        y: (S,S) its y.
        landmarks: (68,2) in the plane.
        texture_xy: (V,2) column and row of every vertex in the texture, in pixels.
        mean_skin: (C,C,3) RGB 0..1, without eyes, brows and lips.
        skin_basis: (C,C,3,n_alb) what one unit of each albedo coefficient adds.
    """

    x: Floats
    y: Floats
    landmarks: Floats
    texture_xy: Floats
    mean_skin: Floats
    skin_basis: Floats

    @classmethod
    def of(cls, data: FaceModelData) -> FaceChart:
        """The chart of the open face."""
        centres = (np.arange(TEXTURE_SIZE) + 0.5) / TEXTURE_SIZE
        u, v = np.meshgrid(centres, 1 - centres)
        plane = face_plane(np.stack([u.ravel(), v.ravel()], 1))
        x, y = plane.T.reshape(2, TEXTURE_SIZE, TEXTURE_SIZE)
        landmarks = face_plane(data.uv[data.landmarks["68"]].astype(np.float64))
        texture_xy = np.stack([data.uv[:, 0], 1 - data.uv[:, 1]], 1) * TEXTURE_SIZE - 0.5
        albedo = _bare_skin(data)
        basis = data.albedo_basis.reshape(len(albedo), -1) / 255
        coarse = _in_texture(data, np.concatenate([albedo, basis], 1))
        return cls(
            np.ascontiguousarray(x, np.float32),
            np.ascontiguousarray(y, np.float32),
            landmarks.astype(np.float32),
            texture_xy.astype(np.float32),
            coarse[..., :3],
            coarse[..., 3:].reshape(COARSE_SIZE, COARSE_SIZE, 3, -1),
        )

    def skin(self, albedo: npt.NDArray[np.floating]) -> Floats:
        """The bare skin (S,S,3) of one head with the albedo coefficients (n_alb,)."""
        coarse = self.mean_skin + self.skin_basis @ albedo.astype(np.float32)
        size = (TEXTURE_SIZE, TEXTURE_SIZE)
        return cv2.resize(coarse, size, interpolation=cv2.INTER_LINEAR)


def _bare_skin(data: FaceModelData) -> Floats:
    """(V,3) mean albedo 0..1, with the skin's colour instead of eyes, brows and lips."""
    albedo = (data.mean_albedo / 255).astype(np.float32)
    parts = dict(zip(data.part_names, data.part_vertices, strict=True))
    skin = np.median(albedo[parts["skin"]], axis=0)
    for name in data.part_names:
        if name not in ("skin", "nose"):
            albedo[parts[name]] = skin
    return albedo


def _in_texture(data: FaceModelData, values: Floats) -> Floats:
    """Per-vertex values (V,n) drawn into the chart, (C,C,n); the nearest one where it is empty."""
    uv = torch.from_numpy(np.ascontiguousarray(data.uv))
    # Of the same scale as the texture, with row 0 at the top.
    clip = torch.stack(
        [uv[:, 0] * 2 - 1, 1 - uv[:, 1] * 2, torch.zeros(len(uv)), torch.ones(len(uv))], 1
    )
    rasterizer, triangles = CpuRasterizer(1), torch.from_numpy(data.triangles)
    raster = rasterizer.rasterize(clip[None], triangles, (COARSE_SIZE, COARSE_SIZE))
    vertex_values = torch.from_numpy(np.ascontiguousarray(values))[None]
    drawn = rasterizer.interpolate(vertex_values, raster, triangles)[0].numpy()
    empty = (raster[0, ..., 3] == 0).numpy().astype(np.uint8)
    if not empty.any():
        return drawn
    _, labels = cv2.distanceTransformWithLabels(
        empty, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    rows, columns = np.nonzero(empty == 0)
    source = np.zeros((int(labels.max()) + 1, 2), np.intp)
    source[labels[rows, columns]] = np.stack([rows, columns], 1)
    nearest = source[labels]
    return np.ascontiguousarray(drawn[nearest[..., 0], nearest[..., 1]])
