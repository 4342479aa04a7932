"""MTCNN's three networks: Zhang et al., Joint Face Detection and Alignment (2016).

Shapes and weights are those of the PyPI package ``mtcnn`` 1.0.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tddfa3.networks.engine import Network


class Layer(NamedTuple):
    """A convolution with PReLU, then a max pooling of stride 2 where ``pool`` is not 0."""

    inputs: int
    outputs: int
    kernel: int
    pool: int = 0
    pad_pool: bool = False


class CascadeNetwork(nn.Module):
    """Convolutions, optionally one fully connected layer, then one head per output.

    Args:
        layers: the convolutions.
        heads: number of values of each head.
        dense: inputs and outputs of the fully connected layer; without one the heads are 1x1
            convolutions and the network takes images of any size.
    """

    def __init__(
        self, layers: Sequence[Layer], heads: Sequence[int], dense: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.convs = nn.ModuleList(nn.Conv2d(x.inputs, x.outputs, x.kernel) for x in layers)
        self.prelus = nn.ModuleList(nn.PReLU(x.outputs) for x in layers)
        self.fc = nn.Linear(*dense) if dense else None
        self.fc_prelu = nn.PReLU(dense[1]) if dense else None
        self.heads = nn.ModuleList(
            nn.Linear(dense[1], size) if dense else nn.Conv2d(layers[-1].outputs, size, 1)
            for size in heads
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` normalised RGB -> one tensor per head; the last holds class logits."""
        x = images
        for layer, convolution, prelu in zip(self.layers, self.convs, self.prelus, strict=True):
            x = prelu(convolution(x))
            if layer.pool:
                x = F.max_pool2d(x, layer.pool, stride=2, ceil_mode=layer.pad_pool)
        if self.fc is not None and self.fc_prelu is not None:
            # The stored weights expect columns first and channels innermost.
            x = self.fc_prelu(self.fc(x.permute(0, 3, 2, 1).flatten(1)))
        return [head(x) for head in self.heads]


class MtcnnNetworks(nn.Module):
    """The proposal, refinement and output network, named like their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.pnet = CascadeNetwork(
            [Layer(3, 10, 3, 2, True), Layer(10, 16, 3), Layer(16, 32, 3)], heads=(4, 2)
        )
        self.rnet = CascadeNetwork(
            [Layer(3, 28, 3, 3, True), Layer(28, 48, 3, 3), Layer(48, 64, 2)],
            heads=(4, 2),
            dense=(576, 128),
        )
        self.onet = CascadeNetwork(
            [
                Layer(3, 32, 3, 3, True),
                Layer(32, 64, 3, 3),
                Layer(64, 64, 3, 2, True),
                Layer(64, 128, 2),
            ],
            heads=(4, 10, 2),
            dense=(1152, 256),
        )


CELL, STRIDE = 12, 2
"""The proposal network's receptive field per output cell and its stride, in pixels."""
REFINE_SIZE, OUTPUT_SIZE = 24, 48
"""Side in pixels of the refinement and the output network's input."""


def propose(network: Network, image: Tensor, rows_at_a_time: int) -> tuple[Tensor, Tensor]:
    """Runs the proposal network over one image in strips, which bounds the memory.

    Each strip contains the receptive field of its output cells, so the result equals that of the
    whole image.

    Args:
        network: the proposal network.
        image: ``(3, H, W)`` normalised RGB, H and W at least 12.
        rows_at_a_time: rows of output cells per strip.

    Returns:
        Regressions ``(4, h, w)`` and face probabilities ``(h, w)``, one per cell.
    """
    cells = -(-(image.shape[1] - CELL) // STRIDE) + 1
    regressions, probabilities = [], []
    for first in range(0, cells, rows_at_a_time):
        last = first + rows_at_a_time
        # The last strip extends to the border, where the pooling window may be incomplete.
        end = (last - 1) * STRIDE + CELL if last < cells else image.shape[1]
        strip = image[None, :, first * STRIDE : end]
        regression, logits = network(strip)
        regressions.append(regression[0])
        probabilities.append(logits[0].softmax(dim=0)[1])
    return torch.cat(regressions, dim=1), torch.cat(probabilities, dim=0)
