"""The UV chart of a mesh, rasterized once into a square map.

A map has row 0 at v = 1. Pixel (row i, column j) of a map of side S has its centre at
u = (j + 0.5) / S, v = 1 - (i + 0.5) / S.
"""

from __future__ import annotations

from functools import cached_property

import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from tddfa3.rasterize import Rasterizer

PADDING = 8 / 1024
"""Width of the padding around the chart, as a share of the map's side."""


class UvChart:
    """A chart rasterized at one size.

    Args:
        uv: float32 (V, 2), u to the right, v up; the square 0..1 fills the map.
        triangles: int32 (T, 3).
        size: side S of the map in pixels.
        rasterizer: draws the chart.

    Attributes:
        raster: (1, S, S, 4) what the rasterizer drew; see :mod:`tddfa3.rasterize`.

    Raises:
        ValueError: If the chart covers no pixel.
    """

    def __init__(self, uv: Tensor, triangles: Tensor, size: int, rasterizer: Rasterizer) -> None:
        self.size = size
        self.triangles = triangles
        self.rasterizer = rasterizer
        u, v = uv.unbind(1)
        # Row 0 of a raster is y = -1; here it is v = 1.
        clip = [2 * u - 1, 1 - 2 * v, torch.zeros_like(u), torch.ones_like(u)]
        position = torch.stack(clip, dim=1)[None]  # (1, V, 4)
        self.raster = rasterizer.rasterize(position, triangles, (size, size))  # (1, S, S, 4)
        if not self.raster[..., 3].any():
            raise ValueError(f"the UV chart covers no pixel of a map of side {size}")

    def draw(self, values: Tensor) -> Tensor:
        """Draws vertex values, float32 (V, C), into a map (S, S, C), 0 outside the chart."""
        return self.rasterizer.interpolate(values[None], self.raster, self.triangles)[0]

    def draw_padded(self, values: Tensor) -> Tensor:
        """Like :meth:`draw`, with pixels near the chart set to the nearest pixel inside it.

        Viewers filter textures, and without padding would mix black into the chart's outline.
        """
        return self.rasterizer.interpolate(values[None], self._padded_raster, self.triangles)[0]

    def values_at(self, pixels: Tensor, values: Tensor) -> Tensor:
        """The pixels of :meth:`draw` at some places only.

        Args:
            pixels: int64 (N,) flat indices into the map.
            values: float32 (V, C) at the vertices.

        Returns:
            (N, C).
        """
        drawn = self.raster.view(-1, 4)[pixels]  # (N, 4)
        return self.rasterizer.interpolate(values[None], drawn[None, None], self.triangles)[0, 0]

    def pad(self, picture: Tensor) -> Tensor:
        """A map (S, S) with pixels near the chart set to the nearest pixel inside it."""
        outside, inside = self._outline
        flat = picture.flatten().clone()  # (S * S,)
        flat[outside] = flat[inside]
        return flat.view_as(picture)

    def reader(self, places: Tensor) -> MapReader:
        """A reader of bilinear map values at fixed places, for which no map needs to be drawn.

        Outside the chart the nearest pixel of the chart is read.

        Args:
            places: (N, 2) column and row in pixels; whole numbers are pixel centres.

        Returns:
            a reader for these places.
        """
        places = places.double()
        corner = torch.floor(places)  # (N, 2), the upper left of the four pixels read
        share = places - corner  # (N, 2)
        indices, weights = [], []
        for down in (0, 1):
            for right in (0, 1):
                column, row = (corner + corner.new_tensor([right, down])).long().unbind(1)
                pixel = row.clamp(0, self.size - 1) * self.size + column.clamp(0, self.size - 1)
                index, weight = self._vertices(self._nearest[pixel])  # each (N, 3)
                x, y = (share if right else 1 - share)[:, 0], (share if down else 1 - share)[:, 1]
                indices.append(index)
                weights.append(weight * (x * y)[:, None].float())
        return MapReader(torch.cat(indices, dim=1), torch.cat(weights, dim=1))  # (N, 12) each

    def _vertices(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The vertices (N, 3) behind flat pixel indices (N,) of the chart, and their weights."""
        drawn = self.raster.view(-1, 4)[pixels]
        u, v, _, triangle = drawn.unbind(1)
        return self.triangles[triangle.long() - 1].long(), torch.stack([u, v, 1 - u - v], dim=1)

    @cached_property
    def _padded_raster(self) -> Tensor:
        outside, inside = self._outline
        flat = self.raster.reshape(-1, 4).clone()
        flat[outside] = flat[inside]
        return flat.view_as(self.raster)

    @cached_property
    def _outline(self) -> tuple[Tensor, Tensor]:
        """Flat indices (M,) of the empty pixels near the chart, and of their nearest inside it."""
        distance = max(1.0, PADDING * self.size)
        pixels = torch.arange(self.size**2, device=self._nearest.device)
        rows = pixels // self.size - self._nearest // self.size
        columns = pixels % self.size - self._nearest % self.size
        squared = rows**2 + columns**2
        outside = torch.nonzero((squared > 0) & (squared <= distance**2))[:, 0]
        return outside, self._nearest[outside]

    @cached_property
    def _nearest(self) -> Tensor:
        """For every pixel the flat index of the nearest pixel inside the chart: (S * S,)."""
        empty = (self.raster[0, ..., 3] == 0).cpu().numpy()  # (S, S)
        row, column = ndimage.distance_transform_edt(
            empty, return_distances=False, return_indices=True
        )
        nearest = torch.from_numpy(row).long() * self.size + torch.from_numpy(column).long()
        return nearest.flatten().to(self.raster.device)


class MapReader:
    """Reads a map's values at N places as weighted means of K vertices each."""

    def __init__(self, index: Tensor, weight: Tensor) -> None:
        self.index = index  # (N, K) int64
        self.weight = weight  # (N, K) float32

    def read(self, values: Tensor) -> Tensor:
        """Values at the places, (B, N, C), of the maps drawn from vertex values (B, V, C)."""
        read = values.new_empty(len(values), len(self.index), values.shape[2])  # (B, N, C)
        for one, place in zip(values, read, strict=True):
            place.copy_(
                F.embedding_bag(self.index, one, mode="sum", per_sample_weights=self.weight)
            )
        return read
