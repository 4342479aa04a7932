"""ResNet-50 with coefficient heads: upstream's larger network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from tddfa3.networks.backbones.heads import CoefficientHeads
from tddfa3.networks.resnet import FEATURES, ResNet50Trunk


class ResNet50(nn.Module):
    """ResNet-50 trunk, pooled, and one linear head per group of coefficients.

    Args:
        head_sizes: number of outputs of each head, in the order of the coefficient vector.
    """

    def __init__(self, head_sizes: Sequence[int]) -> None:
        super().__init__()
        self.backbone = ResNet50Trunk()
        self.final_layers = CoefficientHeads(FEATURES, head_sizes)

    def forward(self, crops: Tensor) -> Tensor:
        """``(B, 3, 224, 224)`` float32 RGB 0..1 -> ``(B, sum(head_sizes))`` float32."""
        features = self.backbone(crops)[-1]
        return self.final_layers(features.mean(dim=(2, 3)))
