"""RetinaFace with a ResNet-50 trunk: Deng et al., RetinaFace (2019).

Modules are named as in the published weights. Their third head, for five points, is omitted because
the 106-point network is more accurate.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tddfa3.networks.resnet import ResNet50Trunk

STRIDES = (8, 16, 32)
"""Pixels per cell, for each of the three levels."""
ANCHOR_SIZES = ((16, 32), (64, 128), (256, 512))
"""Sides of the anchors in pixels, per level."""
VARIANCES = (0.1, 0.2)
"""Scale of the box regression: the first for shifts, the second for logarithms of sizes."""
_CHANNELS = 256


class RetinaFaceNetwork(nn.Module):
    """Normalised images -> box regressions and class logits, one per anchor."""

    def __init__(self) -> None:
        super().__init__()
        self.body = ResNet50Trunk()
        self.fpn = FeaturePyramid((512, 1024, 2048))
        self.ssh1 = ContextModule()
        self.ssh2 = ContextModule()
        self.ssh3 = ContextModule()
        self.ClassHead = nn.ModuleList(AnchorHead(2) for _ in STRIDES)
        self.BboxHead = nn.ModuleList(AnchorHead(4) for _ in STRIDES)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, 3, S, S)`` -> regressions ``(B, A, 4)``, logits ``(B, A, 2)`` (background, face).

        The A anchors are those of :func:`anchors`, in the same order.
        """
        contexts = (self.ssh1, self.ssh2, self.ssh3)
        levels = self.fpn(self.body(images))
        features = [context(level) for context, level in zip(contexts, levels, strict=True)]
        boxes = [head(x) for head, x in zip(self.BboxHead, features, strict=True)]
        classes = [head(x) for head, x in zip(self.ClassHead, features, strict=True)]
        return torch.cat(boxes, dim=1), torch.cat(classes, dim=1)


class FeaturePyramid(nn.Module):
    """Brings three trunk levels to equal width and adds coarse levels to finer ones."""

    def __init__(self, channels: tuple[int, int, int]) -> None:
        super().__init__()
        self.output1 = _convolution(channels[0], _CHANNELS, 1)
        self.output2 = _convolution(channels[1], _CHANNELS, 1)
        self.output3 = _convolution(channels[2], _CHANNELS, 1)
        self.merge1 = _convolution(_CHANNELS, _CHANNELS, 3)
        self.merge2 = _convolution(_CHANNELS, _CHANNELS, 3)

    def forward(self, levels: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Trunk features, fine to coarse -> 256 channels each at the same resolutions."""
        coarse = self.output3(levels[2])
        middle = self.output2(levels[1])
        middle = self.merge2(middle + F.interpolate(coarse, size=middle.shape[2:]))
        fine = self.output1(levels[0])
        fine = self.merge1(fine + F.interpolate(middle, size=fine.shape[2:]))
        return fine, middle, coarse


class ContextModule(nn.Module):
    """SSH: 3x3, 5x5 and 7x7 context, the larger ones as chains of 3x3 convolutions."""

    def __init__(self) -> None:
        super().__init__()
        half, quarter = _CHANNELS // 2, _CHANNELS // 4
        self.conv3X3 = _convolution(_CHANNELS, half, 3, activate=False)
        self.conv5X5_1 = _convolution(_CHANNELS, quarter, 3)
        self.conv5X5_2 = _convolution(quarter, quarter, 3, activate=False)
        self.conv7X7_2 = _convolution(quarter, quarter, 3)
        self.conv7x7_3 = _convolution(quarter, quarter, 3, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, 256, H, W)`` -> the same shape."""
        shared = self.conv5X5_1(x)
        wide = self.conv7x7_3(self.conv7X7_2(shared))
        return F.relu(torch.cat([self.conv3X3(x), self.conv5X5_2(shared), wide], dim=1))


class AnchorHead(nn.Module):
    """Predicts ``values`` numbers for each anchor of each cell."""

    def __init__(self, values: int) -> None:
        super().__init__()
        self.values = values
        self.conv1x1 = nn.Conv2d(_CHANNELS, len(ANCHOR_SIZES[0]) * values, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, 256, H, W)`` -> ``(B, anchors of the level, values)``."""
        return self.conv1x1(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, self.values)


def anchors(size: int) -> Tensor:
    """The anchors of a square canvas, ordered by level, row, column, size.

    Args:
        size: side of the canvas in pixels.

    Returns:
        ``(A, 4)`` float32: centre x, centre y, width, height, as shares of the side.
    """
    rows = [
        ((column + 0.5) * stride / size, (row + 0.5) * stride / size, side / size, side / size)
        for stride, sides in zip(STRIDES, ANCHOR_SIZES, strict=True)
        for row, column in product(range(size // stride), repeat=2)
        for side in sides
    ]
    return torch.tensor(rows, dtype=torch.float32)


def decode_boxes(regressions: Tensor, priors: Tensor) -> Tensor:
    """Turns box regressions into boxes.

    Args:
        regressions: ``(N, 4)``, from the network.
        priors: ``(N, 4)``, their anchors.

    Returns:
        ``(N, 4)`` xyxy, as shares of the canvas side.
    """
    centres = priors[:, :2] + regressions[:, :2] * VARIANCES[0] * priors[:, 2:]
    sizes = priors[:, 2:] * torch.exp(regressions[:, 2:] * VARIANCES[1])
    corners = centres - sizes / 2
    return torch.cat([corners, corners + sizes], dim=1)


def _convolution(inputs: int, outputs: int, kernel: int, *, activate: bool = True) -> nn.Sequential:
    layers = [
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, nn.ReLU()) if activate else nn.Sequential(*layers)
