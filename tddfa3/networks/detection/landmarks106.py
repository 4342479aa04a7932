"""106 landmarks of a face from its box, by the network that upstream runs after RetinaFace.

The network is run twice: on a square around the box, then on a square around the points found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tddfa3.networks.engine import Network

INPUT_SIZE = 224
"""Side of the network's input in pixels."""
ENLARGEMENT = 1.35
"""Side of the square relative to the longer side of the face's box."""
MAX_RELATIVE_SIDE = 2.5
"""A square larger than this, in longer sides of the photo, is no face; its border would take
gigabytes."""
CHANNEL_MEANS = (103.94, 116.78, 123.68)
"""Means in BGR order, although subtracted from an RGB crop: the network was trained that way."""

_BLOCKS: tuple[tuple[int, int, int, bool, int], ...] = (
    # input and output channels, stride, residual, expansion; blocks 2 to 17
    (64, 64, 1, False, 2),
    (64, 64, 2, False, 2),
    *[(64, 64, 1, True, 2)] * 4,
    (64, 128, 2, False, 2),
    (128, 128, 1, False, 4),
    *[(128, 128, 1, True, 4)] * 5,
    (128, 128, 1, False, 2),
    (128, 128, 2, False, 2),
    (128, 128, 1, False, 2),
)


@dataclass(frozen=True, slots=True)
class FaceSquare:
    """The square that a face is cropped from, in image pixels.

    It is not rounded and may extend beyond the photo; x and y are its upper left corner.
    """

    x: float
    y: float
    side: float

    @classmethod
    def around(cls, x0: float, y0: float, x1: float, y1: float) -> FaceSquare:
        """A square centred on a box, 1.35 times its longer side, counting both border pixels."""
        side = max(x1 - x0 + 1, y1 - y0 + 1) * ENLARGEMENT
        return cls((x0 + x1) / 2 - side / 2, (y0 + y1) / 2 - side / 2, side)

    def cut(self, image: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """Crops the square and resizes it; outside the photo it is filled with the channel means.

        Args:
            image: ``(H, W, 3)`` uint8 RGB.

        Returns:
            ``(224, 224, 3)`` uint8 RGB; None if the square lies outside the photo or is too large
            to be a face.
        """
        height, width = image.shape[:2]
        if not 0 < self.side <= MAX_RELATIVE_SIDE * max(height, width):
            return None
        right, bottom = self.x + self.side, self.y + self.side
        # Every edge and border is truncated separately, so the crop can be a pixel off square, but
        # points are mapped back by the exact square: that is how upstream runs the network.
        x0, y0 = int(max(0.0, self.x)), int(max(0.0, self.y))
        x1, y1 = int(min(float(width), right)), int(min(float(height), bottom))
        if x1 <= x0 or y1 <= y0:
            return None
        inside = image[y0:y1, x0:x1]
        bordered = cv2.copyMakeBorder(
            inside,
            max(0, int(-self.y)),
            max(0, int(bottom - height)),
            max(0, int(-self.x)),
            max(0, int(right - width)),
            cv2.BORDER_CONSTANT,
            value=CHANNEL_MEANS,
        )
        return np.asarray(cv2.resize(bordered, (INPUT_SIZE, INPUT_SIZE)), dtype=np.uint8)

    def to_image(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Points ``(..., 2)`` in pixels of the crop -> image pixels."""
        return points.astype(np.float64) * (self.side / INPUT_SIZE) + (self.x, self.y)


class Landmarks106:
    """Finds the 106 points of many faces at once.

    Args:
        network: :class:`LandmarkNetwork`, or a callable that computes the same.
        device: where the network runs.
        batch_size: faces per forward pass; bounds the memory.
    """

    def __init__(
        self,
        network: Network,
        *,
        device: torch.device | str,
        batch_size: int = 32,
    ) -> None:
        self.network = network
        self.device = device
        self.batch_size = batch_size

    def find(
        self, images: Sequence[NDArray[np.uint8]], boxes: Sequence[NDArray[np.integer]]
    ) -> list[NDArray[np.float64] | None]:
        """Finds the points of one face per entry; a photo with several faces is given repeatedly.

        Args:
            images: each ``(H, W, 3)`` uint8 RGB.
            boxes: for each image, ``(4,)`` xyxy in image pixels.

        Returns:
            per entry ``(106, 2)`` in image pixels, or None where the face lies outside the photo.
        """
        found: list[NDArray[np.float64] | None] = []
        for start in range(0, len(images), self.batch_size):
            part = slice(start, start + self.batch_size)
            first = self._run(
                images[part], [FaceSquare.around(*map(float, b)) for b in boxes[part]]
            )
            squares = [None if points is None else _square_of(points) for points in first]
            found += self._run(images[part], squares)
        return found

    def _run(
        self, images: Sequence[NDArray[np.uint8]], squares: Sequence[FaceSquare | None]
    ) -> list[NDArray[np.float64] | None]:
        found: list[NDArray[np.float64] | None] = [None] * len(images)
        cuts = {}
        for i, (image, square) in enumerate(zip(images, squares, strict=True)):
            cut = None if square is None else square.cut(image)
            if square is not None and cut is not None:
                cuts[i] = square, cut
        if cuts:
            stacked = torch.from_numpy(np.stack([cut for _, cut in cuts.values()]))
            points = self.network(_normalise(stacked.to(self.device))).cpu().numpy()
            for i, local in zip(cuts, points, strict=True):
                found[i] = cuts[i][0].to_image(local)
        return found


class LandmarkNetwork(nn.Module):
    """MobileNetV2-like trunk with PReLU, one 14x14 heat map per landmark, then soft arg-max."""

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = [_stem(3, 64, stride=2)]
        blocks += [InvertedResidual(*block) for block in _BLOCKS]
        blocks += [_stem(128, 256, stride=1), nn.Conv2d(256, 106, 3, padding=1, bias=False)]
        for i, block in enumerate(blocks, start=1):
            self.add_module(f"block{i}", block)

    def forward(self, crops: Tensor) -> Tensor:
        """Normalised ``(B, 3, 224, 224)`` -> points ``(B, 106, 2)``, x and y in crop pixels."""
        x = crops
        for block in self.children():
            x = block(x)
        return soft_argmax(x) * INPUT_SIZE


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, projection."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, residual: bool, expansion: int
    ) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.residual = residual
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.PReLU(hidden),
            nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.PReLU(hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, H, W)`` -> ``(B, outputs, H / stride, W / stride)``."""
        return x + self.conv(x) if self.residual else self.conv(x)


def soft_argmax(heatmaps: Tensor) -> Tensor:
    """Expected position under the softmax of each heat map.

    The first number, used as x, is the mean ROW: the network was trained with transposed heat maps.

    Args:
        heatmaps: ``(B, N, S, S)``.

    Returns:
        ``(B, N, 2)`` as shares of S.
    """
    size = heatmaps.shape[-1]
    weights = heatmaps.flatten(2).softmax(dim=2).reshape(heatmaps.shape)  # (B, N, S, S)
    steps = torch.arange(size, dtype=weights.dtype, device=weights.device)
    mean_row = weights.sum(dim=3) @ steps  # (B, N)
    mean_column = weights.sum(dim=2) @ steps  # (B, N)
    return torch.stack([mean_row, mean_column], dim=2) / size


def _stem(inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.PReLU(outputs),
    )


def _normalise(crops: Tensor) -> Tensor:
    """``(B, 224, 224, 3)`` uint8 RGB -> ``(B, 3, 224, 224)`` float32."""
    means = torch.tensor(CHANNEL_MEANS, dtype=torch.float32, device=crops.device)
    return ((crops.to(torch.float32) - means) / 255.0).permute(0, 3, 1, 2)


def _square_of(points: NDArray[np.float64]) -> FaceSquare:
    low, high = points.min(axis=0), points.max(axis=0)
    return FaceSquare.around(*map(float, (*low, *high)))
