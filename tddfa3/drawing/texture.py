"""Textures in UV space: maps of vertex colours, and the texture extracted from the photo.

The UV chart never changes, so it is rasterized once per process (:mod:`.uv_chart` defines the
layout of maps). A mesh has about as many vertices as its crop has pixels, so colours are computed
at the vertices, and maps are drawn only for output.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tddfa3.drawing.blend import SeamlessBlender, erode
from tddfa3.drawing.threads import FaceThreads
from tddfa3.drawing.uv_chart import MapReader, UvChart
from tddfa3.geometry.face_model import FaceModel, Geometry
from tddfa3.rasterize import Rasterizer

if TYPE_CHECKING:
    from tddfa3.assets.face_model_data import FaceModelData

Blend = Literal["pca", "flip"]

BLEND_SIZE = 1024
"""Side of the map on which textures are blended: upstream's, independent of the output size."""
BLEND_CELLS = 256
"""Side of the blend's coarse grid; a cell is about as wide as the distance between vertices."""


class TextureMapper:
    """Draws vertex colours into UV maps and extracts textures from crops.

    On a CPU the faces of a batch are processed by as many threads as the rasterizer has.

    Args:
        model: its triangles and device are used.
        data: its uv coordinates are used.
        rasterizer: draws the chart.
        size: side S of the maps that :meth:`uv_map` draws, in pixels.

    Raises:
        ValueError: If there are not as many uv coordinates as vertices of the model.
    """

    def __init__(
        self,
        model: FaceModel,
        data: FaceModelData,
        rasterizer: Rasterizer,
        size: int = BLEND_SIZE,
    ) -> None:
        self.triangles = model.triangles
        self.uv = torch.as_tensor(data.uv, dtype=torch.float32, device=self.triangles.device)
        if self.uv.shape != (model.n_vertices, 2):
            raise ValueError(f"uv must be ({model.n_vertices}, 2), not {tuple(self.uv.shape)}")
        self.rasterizer = rasterizer
        self.size = size
        self._threads = FaceThreads(getattr(rasterizer, "threads", 1))

    def uv_map(self, colors: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draws vertex colours into UV maps, padded around the chart and 0 beyond.

        Args:
            colors: (B, V, 3) RGB 0..1.
            dtype: float32 for 0..1, or uint8 for 0..255, which needs memory for only one float map
                at a time.

        Returns:
            (B, S, S, 3) RGB, row 0 at v = 1.

        Raises:
            ValueError: If ``colors`` has another shape, or for another dtype.
        """
        self._check_colors("colors", colors)
        if dtype not in (torch.float32, torch.uint8):
            raise ValueError(f"maps are float32 or uint8, not {dtype}")
        shape = (len(colors), self.size, self.size, 3)
        maps = torch.empty(shape, dtype=dtype, device=colors.device)
        chart = self._chart

        def draw(k: int) -> None:
            if dtype == torch.uint8:
                # Scaled at the vertices, of which there are far fewer than pixels; truncated, as in
                # all pictures of upstream.
                maps[k].copy_(chart.draw_padded(colors[k].clamp(0, 1) * 255))
            else:
                maps[k].copy_(chart.draw_padded(colors[k]))

        self._threads.run(draw, len(colors))
        return maps

    def extract(
        self,
        crops: Tensor,
        geometry: Geometry,
        visible: Tensor,
        pca: Tensor,
        blend: Blend = "pca",
        *,
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Tensor]:
        """Extracts the photo's texture where the face is visible and fills in the rest.

        Args:
            crops: float32 (B, 3, 224, 224) RGB 0..1.
            geometry: its projected points are used.
            visible: bool (B, V).
            pca: (B, V, 3) the model's colours, RGB 0..1.
            blend: what fills hidden places: "pca" the model's colours, "flip" the other side of the
                face.
            dtype: of the maps, as in :meth:`uv_map`.

        Returns:
            maps (B, S, S, 3), and vertex colours float32 (B, V, 3) 0..1.

        Raises:
            ValueError: If the shapes do not fit together, or ``blend`` is unknown.
        """
        colors = self._blended(crops, geometry, visible, pca, blend)
        return self.uv_map(colors, dtype=dtype), self._read_back.read(colors)

    def extract_colors(
        self,
        crops: Tensor,
        geometry: Geometry,
        visible: Tensor,
        pca: Tensor,
        blend: Blend = "pca",
    ) -> Tensor:
        """Only the vertex colours of :meth:`extract`; draws no map."""
        return self._read_back.read(self._blended(crops, geometry, visible, pca, blend))

    def _blended(
        self, crops: Tensor, geometry: Geometry, visible: Tensor, pca: Tensor, blend: str
    ) -> Tensor:
        """Blended vertex colours (B, V, 3)."""
        self._check_colors("pca", pca)
        if visible.shape != pca.shape[:2]:
            raise ValueError(f"visible must be {tuple(pca.shape[:2])}, not {tuple(visible.shape)}")
        if blend not in ("pca", "flip"):
            raise ValueError(f"unknown blend {blend!r}: pca or flip")
        photo = sample_photo(crops, geometry.points)  # (B, V, 3)
        target = pca if blend == "pca" else self._other_side.read(photo)  # (B, V, 3)
        blended = torch.empty_like(target)
        # Fills the cached properties before the threads need them.
        _ = self._blend_chart.pad(photo.new_zeros(BLEND_SIZE, BLEND_SIZE)), self._blender

        def blend_one(k: int) -> None:
            blended[k] = self._blend_one(photo[k], target[k], visible[k])

        self._threads.run(blend_one, len(visible))
        return blended.clamp_(0, 1)

    def _blend_one(self, photo: Tensor, target: Tensor, visible: Tensor) -> Tensor:
        """One face: photo (V, 3) where visible, target (V, 3) elsewhere, without a seam."""
        chart, difference = self._blend_chart, photo - target
        # Outside the chart nothing is hidden: upstream's mask is set there, and the difference 0.
        hidden = chart.draw((~visible).float()[:, None] * 255)[..., 0]  # (1024, 1024)
        mask = chart.pad(erode(hidden.neg_().add_(255).to(torch.uint8)))  # (S, S)
        weight, correction = self._blender.solve(
            mask, lambda pixels: chart.values_at(pixels, difference)
        )
        at_vertices = self._read_cells(torch.cat([weight[None], correction]))  # (V, 4)
        return target + at_vertices[:, :1] * difference + at_vertices[:, 1:]

    def _read_cells(self, cells: Tensor) -> Tensor:
        """Reads a grid of cells (C, n, n), row 0 at v = 1, bilinearly at the vertices: (V, C)."""
        u, v = self.uv.unbind(1)
        grid = torch.stack([2 * u - 1, 1 - 2 * v], dim=1)[None, None]  # (1, 1, V, 2)
        # (1, C, 1, V)
        read = F.grid_sample(cells[None], grid, padding_mode="border", align_corners=False)
        return read[0, :, 0].T

    def _check_colors(self, name: str, colors: Tensor) -> None:
        if colors.ndim != 3 or colors.shape[1:] != (len(self.uv), 3):
            raise ValueError(f"{name} must be (B, {len(self.uv)}, 3), not {tuple(colors.shape)}")

    @cached_property
    def _chart(self) -> UvChart:
        if self.size == BLEND_SIZE:
            return self._blend_chart
        return UvChart(self.uv, self.triangles, self.size, self.rasterizer)

    @cached_property
    def _blend_chart(self) -> UvChart:
        return UvChart(self.uv, self.triangles, BLEND_SIZE, self.rasterizer)

    @cached_property
    def _blender(self) -> SeamlessBlender:
        return SeamlessBlender(BLEND_SIZE, BLEND_CELLS, self.uv.device)

    @cached_property
    def _read_back(self) -> MapReader:
        """Reads vertex colours where upstream reads its map: at u (S - 1), (1 - v) (S - 1).

        A vertex lies at u S - 0.5, so this is off by up to half a pixel, a tenth of the distance to
        the next vertex. It is kept because without it every twentieth colour differs from upstream
        by more than 2/255.
        """
        u, v = self.uv.double().unbind(1)
        return self._blend_chart.reader(torch.stack([u, 1 - v], dim=1) * (BLEND_SIZE - 1))

    @cached_property
    def _other_side(self) -> MapReader:
        """Reads a map at the mirrored place of each vertex, (1 - u, v)."""
        u, v = self.uv.double().unbind(1)
        return self._blend_chart.reader(torch.stack([1 - u, 1 - v], dim=1) * BLEND_SIZE - 0.5)


def sample_photo(crops: Tensor, points: Tensor) -> Tensor:
    """Samples the crop bilinearly at projected vertices.

    The row is H - 1 - y, as for landmarks. Outside the crop the nearest edge pixel is taken, where
    upstream has black.

    Args:
        crops: (B, 3, H, W) 0..1.
        points: (B, V, 2) crop frame, y up.

    Returns:
        (B, V, 3).

    Raises:
        ValueError: If the shapes do not fit together.
    """
    if crops.ndim != 4 or crops.shape[1] != 3 or points.ndim != 3 or points.shape[2] != 2:
        raise ValueError(
            "crops must be (B, 3, H, W) and points (B, V, 2), "
            f"not {tuple(crops.shape)} and {tuple(points.shape)}"
        )
    if len(crops) != len(points):
        raise ValueError(f"{len(crops)} crops do not belong to the points of {len(points)} faces")
    height, width = crops.shape[2:]
    x = points[..., 0] * (2 / (width - 1)) - 1  # (B, V), -1..1
    y = 1 - points[..., 1] * (2 / (height - 1))  # (B, V)
    grid = torch.stack([x, y], dim=-1)[:, None]  # (B, 1, V, 2)
    # (B, 3, 1, V)
    sampled = F.grid_sample(crops, grid, padding_mode="border", align_corners=True)
    return sampled[:, :, 0].transpose(1, 2).contiguous()
