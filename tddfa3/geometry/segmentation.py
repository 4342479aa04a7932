"""Face parts as masks of the crop: full (occlusion ignored) and visible.

Masks are sampled at pixel centres, as OpenGL does, while landmarks follow upstream's 223 - y, so
masks and landmarks are half a pixel apart; upstream has the same offset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from tddfa3.conventions import CROP_SIZE
from tddfa3.rasterize import Rasterizer

if TYPE_CHECKING:
    from tddfa3.assets.face_model_data import FaceModelData

MAX_PACKED_PARTS = 8
"""Most parts that :func:`pack_parts` can hold: one bit each in a uint8."""


def visible_vertices(
    rast: torch.Tensor, triangles: torch.Tensor, normals: torch.Tensor
) -> torch.Tensor:
    """Which vertices are visible: on a triangle that covers a pixel, and not turned away.

    Args:
        rast: float32 (B, H, W, 4), the rasterized mesh.
        triangles: int32 (T, 3).
        normals: (B, V, 3) unit, rotated, z towards the camera.

    Returns:
        bool (B, V).

    Raises:
        ValueError: If ``normals`` has another shape or batch size than ``rast``.
    """
    if normals.ndim != 3 or normals.shape[0] != rast.shape[0] or normals.shape[2] != 3:
        raise ValueError(
            f"normals must be (B,V,3) for rast {tuple(rast.shape)}; got {tuple(normals.shape)}"
        )
    batch, vertices = normals.shape[:2]
    # Slot 0 takes the empty pixels.
    owns_pixel = rast.new_zeros((batch, triangles.shape[0] + 1), dtype=torch.bool)  # (B, T + 1)
    owns_pixel.scatter_(1, rast[..., 3].flatten(1).long(), True)
    image, triangle = owns_pixel[:, 1:].nonzero(as_tuple=True)  # each (number of such triangles,)
    seen = rast.new_zeros((batch, vertices), dtype=torch.bool)  # (B, V)
    seen[image[:, None], triangles[triangle].long()] = True
    return seen & (normals[..., 2] >= 0)


class PartSegmenter:
    """Draws the masks of a face model's P parts.

    Args:
        data: the model's triangles and parts.
        rasterizer: draws them.

    Attributes:
        part_names: names of the parts, in the order of the masks.
    """

    def __init__(self, data: FaceModelData, rasterizer: Rasterizer) -> None:
        self.part_names = data.part_names
        self._rasterizer = rasterizer
        self._device = torch.device("cpu")
        self._triangles = torch.from_numpy(np.ascontiguousarray(data.triangles))
        self._part_triangles, self._part_ranges = _concatenate(data.part_triangles)
        # (V, P), 1 where the vertex belongs to the part, else 0.
        self._indicator = torch.zeros((data.n_vertices, len(data.part_names)))
        for part, vertices in enumerate(data.part_vertices):
            self._indicator[torch.from_numpy(vertices).long(), part] = 1

    def full_masks(
        self, clip: torch.Tensor, resolution: tuple[int, int] = (CROP_SIZE, CROP_SIZE)
    ) -> torch.Tensor:
        """Masks of each part drawn alone, so that nothing hides it (upstream's seg).

        Args:
            clip: float32 (B, V, 4) clip space; row 0 of the masks is y_clip = -1.
            resolution: (H, W) in pixels.

        Returns:
            bool (B, P, H, W).
        """
        self._follow(clip.device)
        return self._rasterizer.coverage(clip, self._part_triangles, self._part_ranges, resolution)

    def visible_masks(self, rast: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """Masks of the visible part of each part (upstream's seg_visible).

        A part's indicator, 1 at its visible vertices and 0 elsewhere, is interpolated over the
        existing rasterization; the mask is where it reaches 0.5.

        Args:
            rast: float32 (B, H, W, 4), the rasterized mesh.
            visible: bool (B, V).

        Returns:
            bool (B, P, H, W).

        Raises:
            ValueError: If ``visible`` has another shape.
        """
        if visible.shape != (rast.shape[0], self._indicator.shape[0]):
            raise ValueError(
                f"visible must be (B,V) = {(rast.shape[0], self._indicator.shape[0])}; "
                f"got {tuple(visible.shape)}"
            )
        self._follow(rast.device)
        indicator = visible[..., None] * self._indicator  # (B, V, P)
        share = self._rasterizer.interpolate(indicator, rast, self._triangles)  # (B, H, W, P)
        return (share >= 0.5).permute(0, 3, 1, 2).contiguous()

    def _follow(self, device: torch.device) -> None:
        """Moves the constant tensors to the device of the caller's tensors."""
        if device != self._device:
            self._device = device
            self._triangles = self._triangles.to(device)
            self._part_triangles = self._part_triangles.to(device)
            self._indicator = self._indicator.to(device)


def _concatenate(part_triangles: tuple[np.ndarray, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Triangles int32 (M, 3) of all parts, and each part's (first, count) as int32 (P, 2)."""
    counts = np.array([len(triangles) for triangles in part_triangles], np.int32)
    ranges = np.stack([np.cumsum(counts, dtype=np.int32) - counts, counts], axis=1)  # (P, 2)
    joined = np.concatenate([triangles.reshape(-1, 3) for triangles in part_triangles])  # (M, 3)
    return torch.from_numpy(joined.astype(np.int32)), torch.from_numpy(ranges)


def label_map(masks: torch.Tensor) -> torch.Tensor:
    """Merges masks into one label per pixel; where parts overlap, the later one wins.

    Args:
        masks: bool (B, P, H, W).

    Returns:
        uint8 (B, H, W): 0 for the background, else part + 1.

    Raises:
        ValueError: If ``masks`` has another shape or dtype, or more than 255 parts.
    """
    _check_masks(masks, 255)
    numbers = torch.arange(1, masks.shape[1] + 1, dtype=torch.uint8, device=masks.device)
    return (masks * numbers[:, None, None]).amax(dim=1)


def pack_parts(masks: torch.Tensor) -> torch.Tensor:
    """Packs masks into one byte per pixel; parts may overlap.

    Args:
        masks: bool (B, P, H, W), P at most 8.

    Returns:
        uint8 (B, H, W): bit i is part i.

    Raises:
        ValueError: If ``masks`` has another shape or dtype, or more than 8 parts.
    """
    _check_masks(masks, MAX_PACKED_PARTS)
    bits = torch.tensor([1 << i for i in range(masks.shape[1])], dtype=torch.uint8)  # (P,)
    return (masks * bits.to(masks.device)[:, None, None]).sum(dim=1, dtype=torch.uint8)


def unpack_parts(packed: torch.Tensor, parts: int) -> torch.Tensor:
    """The inverse of :func:`pack_parts`.

    Args:
        packed: uint8 (B, H, W).
        parts: number of parts, 1 to 8.

    Returns:
        bool (B, parts, H, W).

    Raises:
        ValueError: If ``packed`` has another shape or dtype, or ``parts`` is out of range.
    """
    if packed.ndim != 3 or packed.dtype != torch.uint8:
        raise ValueError(f"packed must be (B,H,W) uint8; got {tuple(packed.shape)} {packed.dtype}")
    if not 1 <= parts <= MAX_PACKED_PARTS:
        raise ValueError(f"parts must be 1..{MAX_PACKED_PARTS}; got {parts}")
    bits = torch.tensor([1 << i for i in range(parts)], dtype=torch.uint8, device=packed.device)
    return (packed[:, None] & bits[:, None, None]) != 0


def _check_masks(masks: torch.Tensor, most: int) -> None:
    if masks.ndim != 4 or masks.dtype != torch.bool:
        raise ValueError(f"masks must be (B,P,H,W) bool; got {tuple(masks.shape)} {masks.dtype}")
    if not 1 <= masks.shape[1] <= most:
        raise ValueError(f"masks hold {masks.shape[1]} parts; 1..{most} fit in a uint8")
