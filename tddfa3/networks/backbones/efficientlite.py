"""EfficientNet-Lite0 on a halved crop, with coefficient heads: the network of the bundle ``open``.

Tan and Le, EfficientNet (2019), in the variant "Lite0", which has neither squeeze-and-excitation
nor swish. The last stage and the classifier are omitted. Batch norms are already folded into the
stored weights, which are plain convolutions with biases.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tddfa3.conventions import CROP_SIZE


class Stage(NamedTuple):
    """Inverted residual blocks of one width; only the first has the stride."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
)
"""Table 1 of the paper, without its last stage."""
STEM_CHANNELS = 32
INPUT_SIZE = CROP_SIZE // 2
"""Side of the halved crop in pixels."""
FINE_BLOCK = sum(stage.blocks for stage in STAGES[:-1]) - 1
"""Block whose output is the finer of the head's two maps: the last of the second to last stage."""
FINE_CHANNELS, COARSE_CHANNELS, HIDDEN = 24, 64, 256


class EfficientLite(nn.Module):
    """EfficientNet-Lite0 trunk with a fully connected head, which sees where features lie.

    Args:
        head_sizes: number of outputs of each head, in the order of the coefficient vector.

    Attributes:
        output_scale: (sum(head_sizes),) factor from the last layer's outputs to coefficients.
    """

    reduce_fine: nn.Conv2d
    output_scale: Tensor

    def __init__(self, head_sizes: Sequence[int]) -> None:
        super().__init__()
        outputs = sum(head_sizes)
        self.stem = SameConvolution(3, STEM_CHANNELS, 3, INPUT_SIZE, stride=2)
        blocks, channels, size = [], STEM_CHANNELS, self.stem.output_size
        for stage in STAGES:
            if stage is STAGES[-1]:
                fine_features = FINE_CHANNELS * size**2
                self.reduce_fine = nn.Conv2d(channels, FINE_CHANNELS, 1)
            for i in range(stage.blocks):
                block = InvertedResidual(channels, stage, size, stride=1 if i else stage.stride)
                blocks.append(block)
                channels, size = stage.channels, block.output_size
        self.blocks = nn.ModuleList(blocks)
        self.reduce_coarse = nn.Conv2d(channels, COARSE_CHANNELS, 1)
        self.hidden = nn.Linear(fine_features + COARSE_CHANNELS * size**2, HIDDEN)
        self.output = nn.Linear(HIDDEN, outputs)
        self.register_buffer("output_scale", torch.ones(outputs))

    def forward(self, crops: Tensor) -> Tensor:
        """``(B, 3, 224, 224)`` float32 RGB 0..1 -> ``(B, sum(head_sizes))`` float32."""
        return self.from_halved(F.avg_pool2d(crops, 2))

    def from_halved(self, images: Tensor) -> Tensor:
        """Like :meth:`forward`, from crops averaged over 2x2 pixels: ``(B, 3, 112, 112)``."""
        # The range that the trunk was pre-trained with: (grey level - 127) / 128.
        x = F.relu6(self.stem(images * (255 / 128) - 127 / 128))
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i == FINE_BLOCK:
                fine = F.relu(self.reduce_fine(x))
        coarse = F.relu(self.reduce_coarse(x))
        features = torch.cat([fine.flatten(1), coarse.flatten(1)], dim=1)
        outputs: Tensor = self.output(F.relu(self.hidden(features))) * self.output_scale
        return outputs


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, projection; a residual block where shapes allow."""

    def __init__(self, channels: int, stage: Stage, size: int, stride: int) -> None:
        super().__init__()
        hidden = channels * stage.expansion
        self.expand = nn.Conv2d(channels, hidden, 1) if stage.expansion > 1 else None
        self.depthwise = SameConvolution(
            hidden, hidden, stage.kernel, size, stride=stride, groups=hidden
        )
        self.project = nn.Conv2d(hidden, stage.channels, 1)
        self.residual = stride == 1 and channels == stage.channels
        self.output_size = self.depthwise.output_size

    def forward(self, x: Tensor) -> Tensor:
        """``(B, channels, size, size)`` -> ``(B, stage.channels, output_size, output_size)``."""
        hidden = x if self.expand is None else F.relu6(self.expand(x))
        projected: Tensor = self.project(F.relu6(self.depthwise(hidden)))
        return x + projected if self.residual else projected


class SameConvolution(nn.Conv2d):
    """Convolution with TensorFlow's padding "SAME", which the trunk was trained with.

    With a stride of 2, an image of even size gets more zeros below and right than above and left.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, size: int, *, stride: int, groups: int = 1
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, groups=groups)
        self.output_size = -(-size // stride)
        padding = max((self.output_size - 1) * stride + kernel - size, 0)
        before, after = padding // 2, padding - padding // 2
        self.same_padding = (before, after, before, after)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, size, size)`` -> ``(B, outputs, output_size, output_size)``."""
        return super().forward(F.pad(x, self.same_padding))
