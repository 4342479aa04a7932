"""The detectors' interface and result: boxes, scores and five points per face, in image pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Detections:
    """The faces of one image, best score first; image pixels, x right, y down.

    Attributes:
        boxes: ``(N, 4)`` float32: left, top, right, bottom; may extend beyond the image.
        scores: ``(N,)`` float32 in 0..1, descending.
        points5: ``(N, 5, 2)`` float32: the viewer's left eye, right eye, nose tip, the viewer's
            left and right mouth corner. NaN if the image already is the crop.
        points106: ``(N, 106, 2)`` float32, or None if the detector has no such points.
        left_out: number of further faces that were found but not asked for.
        left_out_better: how many of those have a better score than all faces listed.

    Raises:
        ValueError: If the shapes do not fit together or the scores are not sorted.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    points5: NDArray[np.float32]
    points106: NDArray[np.float32] | None = None
    left_out: int = 0
    left_out_better: int = 0

    def __post_init__(self) -> None:
        n = len(self.boxes)
        expected = {"boxes": (n, 4), "scores": (n,), "points5": (n, 5, 2)}
        if self.points106 is not None:
            expected["points106"] = (n, 106, 2)
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} must be {shape}, got {getattr(self, name).shape}")
        if not (np.diff(self.scores) <= 0).all():
            raise ValueError(f"scores must be descending, got {self.scores.tolist()}")

    @classmethod
    def sorted(
        cls,
        boxes: ArrayLike,
        scores: ArrayLike,
        points5: ArrayLike,
        points106: ArrayLike | None = None,
    ) -> Detections:
        """Sorts faces by descending score; equal scores keep their order.

        Args:
            boxes: (N, 4).
            scores: (N,).
            points5: (N, 5, 2).
            points106: (N, 106, 2), or None.

        Returns:
            the detections in float32.
        """
        scores = np.asarray(scores, dtype=np.float32).reshape(-1)
        order = np.argsort(-scores, kind="stable")
        return cls(
            np.asarray(boxes, dtype=np.float32).reshape(-1, 4)[order],
            scores[order],
            np.asarray(points5, dtype=np.float32).reshape(-1, 5, 2)[order],
            None
            if points106 is None
            else np.asarray(points106, dtype=np.float32).reshape(-1, 106, 2)[order],
        )

    @classmethod
    def none(cls) -> Detections:
        """The result for an image without faces."""
        return cls.sorted([], [], [])

    def __len__(self) -> int:
        return len(self.scores)


class Detector(Protocol):
    """Finds faces in a batch of images of any sizes.

    Attributes:
        name: as in :func:`tddfa3.networks.detection.build_detector`.
        needed_side: longer side of an image, in pixels, beyond which more resolution does not help
            this detector; None if it uses the full resolution.
    """

    name: str
    needed_side: int | None

    def detect(self, images: Sequence[NDArray[np.uint8]], which: str = "all") -> list[Detections]:
        """Finds the faces of every image.

        Args:
            images: each ``(H, W, 3)`` uint8 RGB.
            which: the faces that the caller needs: "all", the one with the "best" score, or the one
                with the "largest" box. Where that saves time, the others are left out.

        Returns:
            one :class:`Detections` per image, in order.

        Raises:
            ValueError: If an image has another shape or dtype.
        """
        ...


def check_images(images: Sequence[NDArray[np.uint8]]) -> None:
    """Raises ``ValueError`` naming the first image that is not ``(H, W, 3)`` uint8."""
    for i, image in enumerate(images):
        shape = getattr(image, "shape", None)
        dtype = getattr(image, "dtype", None)
        if shape is None or len(shape) != 3 or shape[2] != 3 or 0 in shape or dtype != np.uint8:
            raise ValueError(f"images[{i}] must be (H, W, 3) uint8 RGB, got {shape} {dtype}")


def to_tensor(image: NDArray[np.uint8], device: torch.device | str) -> Tensor:
    """An image ``(H, W, 3)`` as a tensor on the device; may share memory, so do not write to it."""
    contiguous = np.ascontiguousarray(image)
    # PyTorch warns about read-only arrays, such as those made from Pillow images.
    return torch.from_numpy(contiguous if contiguous.flags.writeable else contiguous.copy()).to(
        device
    )
