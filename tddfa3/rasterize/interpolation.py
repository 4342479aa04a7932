"""Vertex attributes at the pixels of a rasterized picture, compiled by numba."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def interpolate_kernel(
    attr: np.ndarray, rast: np.ndarray, tri: np.ndarray, out: np.ndarray
) -> None:
    """Writes interpolated attributes into ``out``, 0 where nothing is drawn.

    Args:
        attr: float32 (B, V, C) or (1, V, C).
        rast: float32 (B, H, W, 4).
        tri: int32 (T, 3).
        out: float32 (B, H, W, C).
    """
    count, height, width, channels = out.shape
    for i in range(count):
        values = attr[i % attr.shape[0]]  # (V, C)
        for y in range(height):
            for x in range(width):
                t = np.int64(rast[i, y, x, 3]) - 1
                if t < 0:
                    out[i, y, x, :] = 0.0
                    continue
                u, v = rast[i, y, x, 0], rast[i, y, x, 1]
                w = np.float32(1.0) - u - v
                a, b, c = tri[t, 0], tri[t, 1], tri[t, 2]
                for k in range(channels):
                    out[i, y, x, k] = u * values[a, k] + v * values[b, k] + w * values[c, k]
