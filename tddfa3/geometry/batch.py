"""A batch of labelled crops as tensors, which is what the labeler's batched calls return."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from tddfa3.geometry.face_model import Geometry


@dataclass
class FaceBatch:
    """A batch of B labelled crops as tensors on the labeler's device; V vertices, P parts."""

    alpha: Tensor  # (B, total) the network's output
    geometry: Geometry
    raster: Tensor  # (B, 224, 224, 4) u, v, z/w, triangle id + 1; row 0 is the top
    visible: Tensor  # (B, V) bool
    landmarks: dict[str, Tensor] = field(default_factory=dict)  # name -> (B, N, 2) crop pixels
    landmarks_visible: dict[str, Tensor] = field(default_factory=dict)  # name -> (B, N) bool
    seg: Tensor | None = None  # (B, 224, 224) uint8, bit i = part i
    seg_visible: Tensor | None = None  # (B, 224, 224) uint8 labels
    colors: dict[str, Tensor] = field(default_factory=dict)  # "pca", "extracted": (B, V, 3) 0..1
    textures: dict[str, Tensor] = field(default_factory=dict)  # (B, S, S, 3) uint8
    renders: dict[str, Tensor] = field(default_factory=dict)  # (B, 224, 224, C)

    def __len__(self) -> int:
        return len(self.alpha)
