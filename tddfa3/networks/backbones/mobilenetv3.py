"""MobileNetV3-Large with coefficient heads: upstream's smaller network.

Howard et al., Searching for MobileNetV3 (2019), in the layout of d-li14's published weights. It
differs from torchvision's: squeeze-and-excitation comes before the activation in blocks that expand
and after it in the one that does not, and its gate consists of linear layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from tddfa3.networks.backbones.heads import CoefficientHeads


class Stage(NamedTuple):
    """One inverted residual block."""

    kernel: int
    expansion: float
    channels: int
    excite: bool
    hardswish: bool
    stride: int


STAGES = (
    Stage(3, 1.0, 16, False, False, 1),
    Stage(3, 4.0, 24, False, False, 2),
    Stage(3, 3.0, 24, False, False, 1),
    Stage(5, 3.0, 40, True, False, 2),
    Stage(5, 3.0, 40, True, False, 1),
    Stage(5, 3.0, 40, True, False, 1),
    Stage(3, 6.0, 80, False, True, 2),
    Stage(3, 2.5, 80, False, True, 1),
    Stage(3, 2.3, 80, False, True, 1),
    Stage(3, 2.3, 80, False, True, 1),
    Stage(3, 6.0, 112, True, True, 1),
    Stage(3, 6.0, 112, True, True, 1),
    Stage(5, 6.0, 160, True, True, 2),
    Stage(5, 6.0, 160, True, True, 1),
    Stage(5, 6.0, 160, True, True, 1),
)
"""Table 1 of the paper."""
STEM_CHANNELS = 16
FEATURES = 960
"""Channels of the pooled features."""


class MobileNetV3(nn.Module):
    """MobileNetV3-Large trunk, pooled, and one linear head per group of coefficients.

    Args:
        head_sizes: number of outputs of each head, in the order of the coefficient vector.
    """

    def __init__(self, head_sizes: Sequence[int]) -> None:
        super().__init__()
        self.backbone = Trunk()
        self.final_layers = CoefficientHeads(FEATURES, head_sizes)

    def forward(self, crops: Tensor) -> Tensor:
        """``(B, 3, 224, 224)`` float32 RGB 0..1 -> ``(B, sum(head_sizes))`` float32."""
        return self.final_layers(self.backbone(crops))


class Trunk(nn.Module):
    """The network up to the pooled features."""

    def __init__(self) -> None:
        super().__init__()
        channels = STEM_CHANNELS
        blocks: list[nn.Module] = [
            nn.Sequential(*_convolution(3, channels, 3, stride=2), nn.Hardswish())
        ]
        for stage in STAGES:
            blocks.append(InvertedResidual(channels, stage))
            channels = stage.channels
        self.features = nn.Sequential(*blocks)
        self.conv = nn.Sequential(*_convolution(channels, FEATURES, 1), nn.Hardswish())

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` -> pooled features ``(B, 960)``."""
        return self.conv(self.features(images)).mean(dim=(2, 3))


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, projection; a residual block where shapes allow."""

    def __init__(self, channels: int, stage: Stage) -> None:
        super().__init__()
        hidden = _multiple_of_8(channels * stage.expansion)
        activation = nn.Hardswish if stage.hardswish else nn.ReLU
        excitation = SqueezeExcitation(hidden) if stage.excite else nn.Identity()
        depthwise = _convolution(hidden, hidden, stage.kernel, stride=stage.stride, groups=hidden)
        project = _convolution(hidden, stage.channels, 1)
        if hidden == channels:
            layers = [*depthwise, activation(), excitation, *project]
        else:
            expand = _convolution(channels, hidden, 1)
            layers = [*expand, activation(), *depthwise, excitation, activation(), *project]
        self.conv = nn.Sequential(*layers)
        self.residual = stage.stride == 1 and channels == stage.channels

    def forward(self, x: Tensor) -> Tensor:
        """``(B, channels, H, W)`` -> ``(B, stage.channels, H / stride, W / stride)``."""
        return x + self.conv(x) if self.residual else self.conv(x)


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate computed from all channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = _multiple_of_8(channels // 4)
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden),
            nn.ReLU(),
            nn.Linear(hidden, channels),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, channels, H, W)`` -> the same shape."""
        return x * self.fc(x.mean(dim=(2, 3)))[:, :, None, None]


def _convolution(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    convolution = nn.Conv2d(
        inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False
    )
    return convolution, nn.BatchNorm2d(outputs)


def _multiple_of_8(channels: float) -> int:
    """The nearest multiple of 8 that is at least nine tenths of ``channels``."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8
