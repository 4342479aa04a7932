"""The detector "none": every image already is a face crop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tddfa3.conventions import CROP_SIZE
from tddfa3.networks.detection.base import Detections, check_images


class WholeImage:
    """Reports each 224x224 image as one face.

    Its box is the whole image, its score 1, and its five points are NaN, which means that the crop
    is :meth:`tddfa3.geometry.crop.CropTransform.identity`.
    """

    name = "none"
    needed_side: int | None = None

    def detect(self, images: Sequence[NDArray[np.uint8]], which: str = "all") -> list[Detections]:
        """See :meth:`tddfa3.networks.detection.base.Detector.detect`.

        Raises:
            ValueError: If an image is not 224x224, or has another shape or dtype.
        """
        check_images(images)
        for i, image in enumerate(images):
            height, width = image.shape[:2]
            if (height, width) != (CROP_SIZE, CROP_SIZE):
                raise ValueError(
                    f"images[{i}] is {width}x{height}; without a detector every image must be "
                    f"a {CROP_SIZE}x{CROP_SIZE} face crop. Choose a detector (retinaface or "
                    "mtcnn), or crop the images first."
                )
        return [self._whole() for _ in images]

    @staticmethod
    def _whole() -> Detections:
        box = [0, 0, CROP_SIZE, CROP_SIZE]
        return Detections.sorted([box], [1.0], np.full((1, 5, 2), np.nan))
