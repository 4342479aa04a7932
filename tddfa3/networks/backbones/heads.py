"""The linear heads that turn pooled features into the coefficient vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class CoefficientHeads(nn.ModuleList):
    """One 1x1 convolution per group of coefficients, concatenated.

    1x1 convolutions rather than linear layers, because the published weights have that shape.

    Args:
        channels: of the pooled features.
        sizes: number of coefficients of each group.
    """

    def __init__(self, channels: int, sizes: Sequence[int]) -> None:
        super().__init__(nn.Conv2d(channels, size, kernel_size=1) for size in sizes)

    def forward(self, features: Tensor) -> Tensor:
        """Pooled features ``(B, channels)`` -> coefficients ``(B, sum(sizes))``."""
        pixels = features[:, :, None, None]
        return torch.cat([head(pixels) for head in self], dim=1).flatten(1)
