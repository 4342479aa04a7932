"""RetinaFace for the boxes, then the 106-point network for the points: upstream's detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tddfa3.networks.detection.base import Detections, check_images, to_tensor
from tddfa3.networks.detection.boxes import suppress_greedily
from tddfa3.networks.detection.landmarks106 import Landmarks106
from tddfa3.networks.detection.retinaface_network import anchors, decode_boxes
from tddfa3.networks.engine import Network

# ImageNet's, in RGB order and 0..255.
_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
# Pupils, nose tip and mouth corners among the 106 points, in the order of Detections.points5.
_POINTS5 = (74, 83, 54, 84, 90)


@dataclass(frozen=True, slots=True)
class RetinaFaceConfig:
    """Settings; the defaults are upstream's, except that upstream takes one image at a time.

    Attributes:
        size: side of the canvas in pixels, a multiple of 32; the photo's longer side is resized to
            it, up or down.
        score_threshold: faces with a lower score are dropped.
        nms_threshold: the worse of two faces is dropped if the intersection over union of their
            boxes exceeds this.
        batch_size: images per forward pass; bounds the memory.
        face_batch_size: faces per forward pass of the 106-point network.

    Raises:
        ValueError: If ``size`` is no multiple of 32 or a batch size is below 1.
    """

    size: int = 512
    score_threshold: float = 0.7
    nms_threshold: float = 0.4
    batch_size: int = 8
    face_batch_size: int = 32

    def __post_init__(self) -> None:
        if self.size < 32 or self.size % 32:
            raise ValueError(f"size must be a positive multiple of 32, got {self.size}")
        if self.batch_size < 1 or self.face_batch_size < 1:
            raise ValueError(
                f"batch sizes must be at least 1, got {self.batch_size, self.face_batch_size}"
            )


@dataclass(frozen=True, slots=True)
class Letterbox:
    """A photo resized to fit the canvas.

    Attributes:
        pixels: (h, w, 3) uint8 RGB, the resized photo.
        left: its column on the canvas.
        top: its row on the canvas.
        scale: photo pixels per canvas pixel.
    """

    pixels: NDArray[np.uint8]
    left: int
    top: int
    scale: float

    @classmethod
    def fit(cls, image: NDArray[np.uint8], size: int) -> Letterbox:
        """Resizes a photo (H, W, 3) to fit a canvas of ``size`` x ``size`` pixels."""
        height, width = image.shape[:2]
        factor = size / max(height, width)
        # round() takes halves to the even number, like the library that upstream resizes with.
        fitted = max(1, round(width * factor)), max(1, round(height * factor))
        if fitted != (width, height):
            resized = cv2.resize(image, fitted, interpolation=cv2.INTER_LINEAR)
            image = np.asarray(resized, dtype=np.uint8)
        return cls(image, (size - fitted[0]) // 2, (size - fitted[1]) // 2, 1 / factor)

    def to_photo(self, boxes: NDArray[np.float64]) -> NDArray[np.int64]:
        """Boxes ``(N, 4)`` in canvas pixels -> photo pixels; infinity becomes very large, NaN 0."""
        # Truncated twice, on the canvas and in the photo, because the 106-point network was trained
        # on squares from such boxes.
        boxes = np.trunc(np.clip(np.nan_to_num(boxes), -1e6, 1e6))
        offset = np.array([self.left, self.top] * 2, dtype=np.float64)
        return np.trunc((boxes - offset) * self.scale).astype(np.int64)


class RetinaFace:
    """Finds all faces of all images, with 106 points each.

    Args:
        network: ``RetinaFaceNetwork``, or a callable that computes the same for ``config.size``.
        landmarks: finds the points in the boxes.
        device: where the network runs.
        config: settings; None for the defaults.
    """

    name = "retinaface"

    def __init__(
        self,
        network: Network,
        landmarks: Landmarks106,
        *,
        device: torch.device | str,
        config: RetinaFaceConfig | None = None,
    ) -> None:
        self.config = config or RetinaFaceConfig()
        self.needed_side: int | None = self.config.size
        self.device = torch.device(device)
        self.network = network
        self.landmarks = landmarks
        self.anchors = anchors(self.config.size).to(device)

    @torch.inference_mode()
    def detect(self, images: Sequence[NDArray[np.uint8]], which: str = "all") -> list[Detections]:
        """See :meth:`tddfa3.networks.detection.base.Detector.detect`.

        Boxes are whole pixels. Faces whose square lies outside the photo are dropped. If ``which``
        is not "all", the 106-point network, a sixth of the time, runs on one face per image.
        """
        check_images(images)
        step = self.config.batch_size
        candidates = [
            candidate
            for start in range(0, len(images), step)
            for candidate in self._find_boxes(images[start : start + step])
        ]
        points = self._points(images, candidates, which)
        return [_detections(found, own) for found, own in zip(candidates, points, strict=True)]

    def _find_boxes(self, images: Sequence[NDArray[np.uint8]]) -> list[_Boxes]:
        letterboxes = [Letterbox.fit(image, self.config.size) for image in images]
        regressions, logits = self.network(self._canvas(letterboxes))
        scores = logits.softmax(dim=2)[:, :, 1]
        return [
            self._decode(regressions[i], scores[i], letterbox, images[i].shape)
            for i, letterbox in enumerate(letterboxes)
        ]

    def _canvas(self, letterboxes: Sequence[Letterbox]) -> Tensor:
        size = self.config.size
        mean = torch.tensor(_MEAN, device=self.device)[:, None, None]
        std = torch.tensor(_STD, device=self.device)[:, None, None]
        canvas = torch.zeros(len(letterboxes), 3, size, size, device=self.device)
        for target, letterbox in zip(canvas, letterboxes, strict=True):
            pixels = to_tensor(letterbox.pixels, self.device).permute(2, 0, 1)
            _, height, width = pixels.shape
            rows = slice(letterbox.top, letterbox.top + height)
            columns = slice(letterbox.left, letterbox.left + width)
            # Padded after normalising, so the border has the mean colour instead of black.
            target[:, rows, columns] = (pixels.to(torch.float32) - mean) / std
        return canvas

    def _decode(
        self, regressions: Tensor, scores: Tensor, letterbox: Letterbox, shape: tuple[int, ...]
    ) -> _Boxes:
        good = (scores > self.config.score_threshold).nonzero().flatten()
        good = good[scores[good].argsort(descending=True, stable=True)]
        decoded = decode_boxes(regressions[good], self.anchors[good]) * self.config.size
        boxes, ranked = decoded.cpu().numpy(), scores[good].cpu().numpy()
        keep = suppress_greedily(boxes, self.config.nms_threshold)
        in_photo = letterbox.to_photo(boxes[keep].astype(np.float64))
        height, width = shape[:2]
        # Drops boxes right of or below the photo; FaceSquare.cut finds all others that miss it.
        inside = (in_photo[:, 0] < width - 1) & (in_photo[:, 1] < height - 1)
        return _Boxes(in_photo[inside], ranked[keep][inside])

    def _points(
        self, images: Sequence[NDArray[np.uint8]], candidates: Sequence[_Boxes], which: str
    ) -> list[dict[int, NDArray[np.float64] | None]]:
        """Per image, points (106, 2) by the index of the box; None for faces outside the photo.

        Boxes that are not needed for ``which`` are missing.
        """
        found: list[dict[int, NDArray[np.float64] | None]] = [{} for _ in images]
        waiting = [boxes.in_order_of(which) for boxes in candidates]
        at_once = None if which == "all" else 1
        while ask := [(i, k) for i, order in enumerate(waiting) for k in order[:at_once]]:
            points = self.landmarks.find(
                [images[i] for i, _ in ask], [candidates[i].boxes[k] for i, k in ask]
            )
            for (i, k), face in zip(ask, points, strict=True):
                found[i][k] = face
                waiting[i] = [] if at_once is None or face is not None else waiting[i][1:]
        return found


@dataclass(frozen=True, slots=True)
class _Boxes:
    """Boxes (N, 4) and scores (N,) of one image, best score first."""

    boxes: NDArray[np.int64]
    scores: NDArray[np.float32]

    def in_order_of(self, which: str) -> list[int]:
        """Indices in descending order of what ``which`` asks for: size or score."""
        if which != "largest":
            return list(range(len(self.scores)))
        areas = (self.boxes[:, 2:] - self.boxes[:, :2]).prod(axis=1)
        return [int(k) for k in np.argsort(-areas, kind="stable")]


def _detections(found: _Boxes, points: Mapping[int, NDArray[np.float64] | None]) -> Detections:
    faces = {k: face for k, face in sorted(points.items()) if face is not None}
    if not faces:
        return Detections.none()
    chosen, stacked = list(faces), np.stack(list(faces.values()))
    skipped = set(range(len(found.scores))) - points.keys()
    return Detections(
        found.boxes[chosen].astype(np.float32),
        found.scores[chosen],
        stacked[:, _POINTS5].astype(np.float32),
        stacked.astype(np.float32),
        left_out=len(skipped),
        left_out_better=sum(k < chosen[0] for k in skipped),
    )
