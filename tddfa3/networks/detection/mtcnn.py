"""MTCNN: three cascaded networks that search a photo at every place and scale.

It finds the same points as the PyPI package ``mtcnn`` 1.0.0, whose weights it uses, without
TensorFlow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tddfa3.networks.detection.base import Detections, check_images, to_tensor
from tddfa3.networks.detection.boxes import Array, shift, suppress, to_squares
from tddfa3.networks.detection.mtcnn_networks import CELL, OUTPUT_SIZE, REFINE_SIZE, STRIDE, propose
from tddfa3.networks.engine import Network

_PYRAMID_FACTOR = 0.709
# The package rounds the number of levels; with its pyramid factor this keeps the levels whose
# shorter side is at least this long.
_SMALLEST_LEVEL = 0.6 * CELL * _PYRAMID_FACTOR**-1.5
# Pixels of a pyramid level per call of the proposal network.
_STRIP_PIXELS = 2_000_000


@dataclass(frozen=True, slots=True)
class MtcnnConfig:
    """Settings; the defaults are those of the package.

    Attributes:
        min_face_size: side in pixels of the smallest face searched for; at least 12. The time is
            inversely proportional to its square, so a larger value saves time on large photos.
        proposal_threshold: candidates with a lower score are dropped after the first network.
        refine_threshold: the same after the second network.
        output_threshold: the same after the third network.
        proposal_level_nms: within a pyramid level, the worse of two boxes that overlap more than
            this is dropped.
        proposal_nms: the same over all levels.
        refine_nms: the same after the second network.
        output_nms: the same after the third network.
        batch_size: patches per forward pass of the second and third network; bounds the memory.

    Raises:
        ValueError: If ``min_face_size`` or ``batch_size`` is too small.
    """

    min_face_size: int = 20
    proposal_threshold: float = 0.6
    refine_threshold: float = 0.7
    output_threshold: float = 0.8
    proposal_level_nms: float = 0.5
    proposal_nms: float = 0.7
    refine_nms: float = 0.7
    output_nms: float = 0.7
    batch_size: int = 256

    def __post_init__(self) -> None:
        if self.min_face_size < CELL:
            raise ValueError(f"min_face_size must be at least {CELL}, got {self.min_face_size}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")


@dataclass(frozen=True, slots=True)
class _Boxes:
    """N boxes of several images: ``owner`` (N,) is the image's index, ``xyxy`` (N, 4)."""

    owner: NDArray[np.intp]
    xyxy: Array
    scores: Array

    def take(self, chosen: NDArray) -> _Boxes:
        return _Boxes(self.owner[chosen], self.xyxy[chosen], self.scores[chosen])

    def best(self, threshold: float, relative_to: str = "union") -> NDArray[np.intp]:
        """Indices of the boxes that remain after suppression within each image."""
        kept = []
        for owner in np.unique(self.owner):
            own = np.flatnonzero(self.owner == owner)
            survivors = suppress(
                self.xyxy[own], self.scores[own], threshold, relative_to=relative_to
            )
            kept.append(own[survivors])
        return np.concatenate(kept) if kept else np.zeros(0, dtype=np.intp)


class Cascade(NamedTuple):
    """The three networks of :class:`.mtcnn_networks.MtcnnNetworks`, ready to run."""

    pnet: Network
    rnet: Network
    onet: Network


class Mtcnn:
    """Finds all faces of all images, with five points each.

    Args:
        networks: the three networks.
        device: where they run.
        config: settings; None for the defaults.
    """

    name = "mtcnn"
    needed_side: int | None = None

    def __init__(
        self,
        networks: Cascade,
        *,
        device: torch.device | str,
        config: MtcnnConfig | None = None,
    ) -> None:
        self.config = config or MtcnnConfig()
        self.device = torch.device(device)
        self.networks = networks

    @torch.inference_mode()
    def detect(self, images: Sequence[NDArray[np.uint8]], which: str = "all") -> list[Detections]:
        """See :meth:`tddfa3.networks.detection.base.Detector.detect`.

        Boxes are clipped to the photo. The memory needed is 12 bytes per pixel of the largest photo
        plus a bounded amount.
        """
        check_images(images)
        config, networks = self.config, self.networks
        pixels = [to_tensor(image, self.device) for image in images]

        boxes = self._proposals(images)
        offsets, scores = self._run(networks.rnet, pixels, boxes, REFINE_SIZE)
        boxes = _Boxes(boxes.owner, shift(boxes.xyxy, offsets), scores)
        boxes = boxes.take(boxes.scores > config.refine_threshold)
        boxes = _squared(boxes.take(boxes.best(config.refine_nms)))

        offsets, points, scores = self._run(networks.onet, pixels, boxes, OUTPUT_SIZE)
        points5 = _points_in_image(points, boxes.xyxy)
        boxes = _Boxes(boxes.owner, shift(boxes.xyxy, offsets), scores)
        good = np.flatnonzero(boxes.scores > config.output_threshold)
        good = good[boxes.take(good).best(config.output_nms, relative_to="min")]
        return _per_image(images, boxes.take(good), points5[good])

    def _proposals(self, images: Sequence[NDArray[np.uint8]]) -> _Boxes:
        """Square candidates of all images, from the proposal network at all scales."""
        found = [_Boxes(np.zeros(0, np.intp), np.zeros((0, 4)), np.zeros(0))]
        for i, image in enumerate(images):
            for xyxy, scores in self._levels(image):
                found.append(_Boxes(np.full(len(xyxy), i), xyxy, scores))
        boxes = _Boxes(
            np.concatenate([b.owner for b in found]),
            np.concatenate([b.xyxy for b in found]),
            np.concatenate([b.scores for b in found]),
        )
        return _squared(boxes.take(boxes.best(self.config.proposal_nms)))

    def _levels(self, image: NDArray[np.uint8]) -> list[tuple[Array, Array]]:
        """Boxes in photo pixels and scores for each level of the photo's pyramid."""
        height, width = image.shape[:2]
        scales = pyramid_scales(min(height, width), self.config.min_face_size)
        if not scales:
            return []
        found = []
        normalised = (image.astype(np.float32) - 127.5) / 128
        for scale in scales:
            size = int(width * scale), int(height * scale)
            level = cv2.resize(normalised, size, interpolation=cv2.INTER_AREA)
            boxes, scores = self._propose(torch.from_numpy(level).to(self.device))
            kept = suppress(boxes / scale, scores, self.config.proposal_level_nms)
            found.append((boxes[kept] / scale, scores[kept]))
        return found

    def _propose(self, level: Tensor) -> tuple[Array, Array]:
        """A level ``(h, w, 3)`` -> boxes in its pixels and scores, of cells above the threshold."""
        strip = max(1, _STRIP_PIXELS // (level.shape[1] * STRIDE))
        regressions, probabilities = propose(self.networks.pnet, level.permute(2, 0, 1), strip)
        rows, columns = torch.nonzero(probabilities > self.config.proposal_threshold, as_tuple=True)
        offsets = regressions[:, rows, columns].T.cpu().numpy().astype(np.float64)
        scores = probabilities[rows, columns].cpu().numpy().astype(np.float64)
        cells = torch.stack([columns, rows], dim=1).cpu().numpy() * float(STRIDE)
        # From pixel 1 to pixel 12 of the cell, as the package counts them.
        corners = np.concatenate([cells + 1, cells + CELL], axis=1)
        return corners + offsets * (CELL - 1), scores

    def _run(
        self, network: Network, pixels: Sequence[Tensor], boxes: _Boxes, size: int
    ) -> list[Array]:
        """The network's outputs for every box; the last, its logits, as face probabilities."""
        outputs = []
        for start in range(0, max(1, len(boxes.owner)), self.config.batch_size):
            part = boxes.take(np.arange(len(boxes.owner))[start : start + self.config.batch_size])
            *values, logits = network(_patches(pixels, part, size, self.device))
            outputs.append([*values, logits.softmax(dim=1)[:, 1]])
        return [torch.cat(o).cpu().numpy().astype(np.float64) for o in zip(*outputs, strict=True)]


def pyramid_scales(shorter_side: int, min_face_size: int) -> list[float]:
    """Scales of the pyramid's levels; at the first, the smallest face fills one cell."""
    first = CELL / min_face_size
    scales: list[float] = []
    while shorter_side * (scale := first * _PYRAMID_FACTOR ** len(scales)) >= _SMALLEST_LEVEL:
        scales.append(scale)
    return scales


def _patches(pixels: Sequence[Tensor], boxes: _Boxes, size: int, device: torch.device) -> Tensor:
    """Each box sampled bilinearly from its image: ``(N, 3, size, size)`` normalised, 0 outside."""
    patches = torch.zeros(len(boxes.owner), size, size, 3, device=device)
    for owner in np.unique(boxes.owner):
        own = torch.from_numpy(np.flatnonzero(boxes.owner == owner)).to(device)
        xyxy = torch.from_numpy(boxes.xyxy[boxes.owner == owner]).to(device)
        patches[own] = _sample(pixels[owner], xyxy, size)
    return patches.permute(0, 3, 1, 2)


def _sample(image: Tensor, boxes: Tensor, size: int) -> Tensor:
    """An image ``(H, W, 3)`` uint8 at boxes ``(N, 4)``: ``(N, size, size, 3)`` normalised."""
    height, width = image.shape[:2]
    y0, y1, row_share, row_inside = _grid(boxes[:, 1], boxes[:, 3], height, size)
    x0, x1, column_share, column_inside = _grid(boxes[:, 0], boxes[:, 2], width, size)
    flat = image.reshape(-1, 3)

    def at(rows: Tensor, columns: Tensor) -> Tensor:
        return flat[rows[:, :, None] * width + columns[:, None, :]].to(torch.float32)

    column_share = column_share[:, None, :, None]
    top = torch.lerp(at(y0, x0), at(y0, x1), column_share)
    bottom = torch.lerp(at(y1, x0), at(y1, x1), column_share)
    patches = (torch.lerp(top, bottom, row_share[:, :, None, None]) - 127.5) / 128
    inside = row_inside[:, :, None] & column_inside[:, None, :]
    return patches * inside[..., None]


def _grid(
    low: Tensor, high: Tensor, length: int, size: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One axis of the sampling, each ``(N, size)``.

    Returns:
        first and second neighbour, the weight of the second, and whether the place is inside.
    """
    steps = torch.linspace(0, 1, size, dtype=low.dtype, device=low.device)
    # The package divides by the length and TensorFlow multiplies by length - 1, which is up to a
    # pixel short at the far end. Reproduced here to find the same points.
    places = (low[:, None] + (high - low)[:, None] * steps) / length * (length - 1)
    inside = (places >= 0) & (places <= length - 1)
    places = places.clamp(0, length - 1)
    first = places.floor()
    second = (first + 1).clamp(max=length - 1)
    return first.long(), second.long(), (places - first).to(torch.float32), inside


def _squared(boxes: _Boxes) -> _Boxes:
    return _Boxes(boxes.owner, to_squares(boxes.xyxy), boxes.scores)


def _points_in_image(points: Array, squares: Array) -> Array:
    """``(N, 10)``, five x then five y as shares of the square -> image pixels ``(N, 5, 2)``."""
    corner = squares[:, None, :2]
    size = squares[:, None, 2:] - corner + 1
    return points.reshape(-1, 2, 5).transpose(0, 2, 1) * size + corner - 1


def _per_image(
    images: Sequence[NDArray[np.uint8]], boxes: _Boxes, points5: Array
) -> list[Detections]:
    detections = []
    for i, image in enumerate(images):
        own = boxes.owner == i
        height, width = image.shape[:2]
        limit = np.array([width - 1, height - 1] * 2, dtype=np.float64)
        clipped = np.clip(boxes.xyxy[own], 0, limit)
        detections.append(Detections.sorted(clipped, boxes.scores[own], points5[own]))
    return detections
