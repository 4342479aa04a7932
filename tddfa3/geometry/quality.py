"""Quality signals that find bad labels without a person looking at them.

The landmarks come from the backbone and the 3DMM, the detector's points from another network: where
the two disagree, at least one is wrong. ``docs/geometry.md`` lists typical good and bad values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

OUTER_EYE_CORNERS = (36, 45)
"""Of the 68 points, viewer's left and right: their distance is the inter-ocular distance."""
MOUTH_CORNERS = (48, 54)
"""Of the 68 points, viewer's left and right."""
FIVE_FROM_68 = ((36, 39), (42, 45), (30,), (48,), (54,))
"""Which of the 68 points are averaged for each of the five: an eye is the mean of its corners."""


def five_from_68(landmarks68: ArrayLike) -> NDArray[np.float64]:
    """The five points: the viewer's left and right eye, nose tip, left and right mouth corner.

    Args:
        landmarks68: (68, 2), any frame.

    Returns:
        (5, 2) in the same frame.

    Raises:
        ValueError: If an argument has another shape.
    """
    points = _points("landmarks68", landmarks68, 68)
    return np.stack([points[list(group)].mean(axis=0) for group in FIVE_FROM_68])


def face_size(landmarks68: ArrayLike) -> float:
    """The length that the quality signals are divided by.

    It is the distance between the outer eye corners or, if longer, that from the middle of the eyes
    to the middle of the mouth, because in a profile the eye corners nearly coincide.

    Args:
        landmarks68: (68, 2), any frame.

    Returns:
        the length in the units of ``landmarks68``.

    Raises:
        ValueError: If an argument has another shape.
    """
    points = _points("landmarks68", landmarks68, 68)
    eyes, mouth = points[list(OUTER_EYE_CORNERS)], points[list(MOUTH_CORNERS)]  # (2, 2) each
    return float(
        max(
            np.linalg.norm(eyes[1] - eyes[0]),
            np.linalg.norm(eyes.mean(axis=0) - mouth.mean(axis=0)),
        )
    )


def quality_points(points5: ArrayLike | None, landmarks68: ArrayLike) -> float | None:
    """Mean distance of the detector's five points from the model's, in units of the face's size.

    Args:
        points5: (5, 2) image pixels, in the order of :func:`five_from_68`; None without a detector.
        landmarks68: (68, 2) image pixels.

    Returns:
        0 for perfect agreement; None where it is undefined: there is no detector, a point is NaN,
        or the landmarks coincide.

    Raises:
        ValueError: If an argument has another shape.
    """
    if points5 is None:
        return None
    found = _points("points5", points5, 5)
    return _mean_distance(found, five_from_68(landmarks68), face_size(landmarks68))


def quality_points106(
    points106: ArrayLike | None, landmarks106_2d: ArrayLike, landmarks68: ArrayLike
) -> float | None:
    """Like :func:`quality_points` over the detector's 106 points: the strongest of the signals.

    They are compared with 106_2d rather than 106, because the detector's contour also follows the
    silhouette in the photograph. Both sets have the same order: contour 0..32, eyes 74 and 83, nose
    tip 54, mouth corners 84 and 90.

    Args:
        points106: (106, 2) image pixels; None for a detector without them.
        landmarks106_2d: (106, 2) image pixels.
        landmarks68: (68, 2) image pixels, for :func:`face_size`.

    Returns:
        0 for perfect agreement; None where it is undefined, as in :func:`quality_points`.

    Raises:
        ValueError: If an argument has another shape.
    """
    if points106 is None:
        return None
    found = _points("points106", points106, 106)
    projected = _points("landmarks106_2d", landmarks106_2d, 106)
    return _mean_distance(found, projected, face_size(landmarks68))


def quality_visible(visible: Tensor) -> Tensor:
    """Share of the mesh's vertices that are visible.

    Args:
        visible: bool (B, V).

    Returns:
        float32 (B,), 0..1.

    Raises:
        ValueError: If an argument has another shape.
    """
    if visible.ndim != 2 or visible.shape[1] == 0:
        raise ValueError(f"visible must be (B, V) with V > 0, not {tuple(visible.shape)}")
    return visible.float().mean(dim=1)


def quality_coverage(raster: Tensor) -> Tensor:
    """Share of the crop that the rendered face covers.

    Args:
        raster: float (B, H, W, 4), a rasterizer's output: the last channel is 0 where empty.

    Returns:
        float32 (B,), 0..1.

    Raises:
        ValueError: If an argument has another shape.
    """
    if raster.ndim != 4 or raster.shape[3] != 4 or 0 in raster.shape[1:]:
        raise ValueError(f"raster must be (B, H, W, 4), not {tuple(raster.shape)}")
    return (raster[..., 3] > 0).float().mean(dim=(1, 2))


def _mean_distance(
    found: NDArray[np.float64], projected: NDArray[np.float64], size: float
) -> float | None:
    distance = np.linalg.norm(found - projected, axis=1).mean()
    if not size > 0 or not np.isfinite(distance / size):
        return None
    return float(distance / size)


def _points(name: str, values: ArrayLike, count: int) -> NDArray[np.float64]:
    points = np.asarray(values, dtype=np.float64)
    if points.shape != (count, 2):
        raise ValueError(f"{name} must have shape ({count}, 2), not {points.shape}")
    return points
