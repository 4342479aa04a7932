"""Box arithmetic in NumPy, xyxy; MTCNN's as the PyPI package ``mtcnn`` 1.0.0 does it.

torchvision suppresses boxes faster where there are many (the 60 of a usual photograph: 0.03 ms
against 0.09; detecting takes 200), but would be imported in every actor for it: 1.5 s and 90 MB.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Floats = NDArray[np.floating]

# Overlaps computed at a time.
_BLOCK = 2_000_000


def suppress(
    boxes: Array, scores: Array, threshold: float, *, relative_to: str = "union"
) -> NDArray[np.intp]:
    """Indices ``(K,)`` of the boxes ``(N, 4)`` that no better box overlaps, best score first.

    Not greedy: a box that is itself dropped still drops others. The package does it so, and its
    thresholds are set for it.

    Args:
        threshold: overlaps above it count.
        relative_to: overlap as a share of the "union" of the two boxes, or of the smaller ("min").
    """
    # Of equal scores the later box first, as in the package: saturated scores do tie.
    order = np.argsort(scores, kind="stable")[::-1]
    ranked = boxes[order]
    keep = np.ones(len(order), dtype=bool)
    step = max(1, _BLOCK // max(1, len(order)))
    for start in range(0, len(order), step):
        stop = min(start + step, len(order))
        overlaps = overlap(ranked[:stop], ranked[start:stop], relative_to) > threshold
        better = np.arange(stop)[:, None] < np.arange(start, stop)
        keep[start:stop] = ~(overlaps & better).any(axis=0)
    return order[keep]


def overlap(a: Floats, b: Floats, relative_to: str) -> Floats:
    """Boxes ``(N, 4)`` and ``(M, 4)`` -> overlaps ``(N, M)``; NaN for boxes without area."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    area_a = (a[:, 2:] - a[:, :2]).prod(axis=1)[:, None]
    area_b = (b[:, 2:] - b[:, :2]).prod(axis=1)[None]
    whole = area_a + area_b - shared if relative_to == "union" else np.minimum(area_a, area_b)
    with np.errstate(divide="ignore", invalid="ignore"):
        return shared / whole


def suppress_greedily(boxes: NDArray[np.float32], threshold: float) -> NDArray[np.intp]:
    """Indices ``(K,)`` of the boxes ``(N, 4)`` that no better box which is kept itself overlaps.

    The usual non-maximum suppression, RetinaFace's.

    Args:
        boxes: the best first.
        threshold: intersections over unions above it count.
    """
    keep: list[int] = []
    left = np.arange(len(boxes))
    while len(left):
        best, left = left[0], left[1:]
        keep.append(best)
        overlaps = overlap(boxes[best][None], boxes[left], "union")[0]
        # Written so that boxes without area, whose overlap is NaN, stay.
        left = left[~(overlaps > threshold)]
    return np.array(keep, dtype=np.intp)


def to_squares(boxes: Array) -> Array:
    """Each box widened to a square of its longer side around the same centre."""
    sizes = boxes[:, 2:] - boxes[:, :2]
    side = sizes.max(axis=1, keepdims=True, initial=-np.inf)
    corner = boxes[:, :2] + (sizes - side) / 2
    return np.concatenate([corner, corner + side], axis=1)


def shift(boxes: Array, offsets: Array) -> Array:
    """Moves the edges by ``offsets`` ``(N, 4)``, in units of the box's size in whole pixels."""
    return boxes + offsets * np.tile(boxes[:, 2:] - boxes[:, :2] + 1, 2)
