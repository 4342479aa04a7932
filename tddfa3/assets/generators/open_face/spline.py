"""Thin-plate splines: smooth maps of the plane that pass near given points."""

from __future__ import annotations

import numpy as np

from tddfa3.assets.generators.synthetic.seeded import FloatArray


def thin_plate(
    points: FloatArray, values: FloatArray, smoothing: FloatArray, at: FloatArray
) -> FloatArray:
    """Values of the spline that bends least (Bookstein 1989).

    Args:
        points: (N, 2).
        values: (N, k), at the points.
        smoothing: (N,); with 0 the spline passes through a point exactly, with more it may pass
            beside it.
        at: (M, 2).

    Returns:
        (M, k), values at ``at``.
    """
    count = len(points)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _kernel(points, points) + np.diag(smoothing)
    system[:count, count:] = _affine(points)
    system[count:, :count] = _affine(points).T
    known = np.concatenate([values, np.zeros((3, values.shape[1]))])
    weights = np.linalg.solve(system, known)
    return np.concatenate([_kernel(at, points), _affine(at)], 1) @ weights


def _affine(points: FloatArray) -> FloatArray:
    return np.concatenate([np.ones((len(points), 1)), points], 1)


def _kernel(first: FloatArray, second: FloatArray) -> FloatArray:
    squared = ((first[:, None] - second[None]) ** 2).sum(-1)
    return 0.5 * squared * np.log(np.maximum(squared, 1e-18))
