"""The rasterizer's rules once more, slow and plain, in float64 and exact integers.

Two independent ways to decide what a pixel shows, neither of them that of the fast kernels:

- a triangle wholly inside the view volume: integer edge functions at snapped vertices, without
  limits on their size (Python integers);
- one that the near or far plane or the eye plane cuts: no clipping at all. For each pixel the
  linear system "barycentrics times vertices = this pixel's ray" is solved in homogeneous
  coordinates, and the point is kept if it is in the triangle and in the view volume. Vertices are
  not snapped.
"""

from __future__ import annotations

import math

import numpy as np

SUBPIXELS = 4096


def rasterize(
    pos: np.ndarray,
    tri: np.ndarray,
    resolution: tuple[int, int],
    offset: tuple[float, float] = (0.0, 0.0),
    exact: bool = True,
) -> np.ndarray:
    """One image: pos (V,4), tri (T,3) -> (H,W,4) float64 (u, v, z/w, triangle id + 1).

    ``offset`` moves the samples from the pixel centres, in pixels; with ``exact=False`` every
    triangle is treated as one that is cut, so that samples need not be on the snapping grid.
    """
    pos = pos.astype(np.float64)
    out = np.zeros((*resolution, 4))
    nearest = np.full(resolution, np.inf, np.float32)
    for t, corners in enumerate(pos[tri]):
        if exact and offset == (0.0, 0.0) and is_inside_volume(corners):
            hit, u, v, z = inside_triangle(corners, resolution)
        else:
            hit, u, v, z = cut_triangle(corners, resolution, offset)
        # float32 depths, first triangle wins: the documented tie rule.
        depth = z.astype(np.float32)
        shown = hit & (depth < nearest)
        nearest[shown] = depth[shown]
        out[shown] = np.stack([u, v, z, np.full(resolution, t + 1.0)], axis=-1)[shown]
    return out


def interpolate(attr: np.ndarray, rast: np.ndarray, tri: np.ndarray) -> np.ndarray:
    """One image: attr (V,C), rast (H,W,4), tri (T,3) -> (H,W,C) float64."""
    shown = rast[..., 3] > 0
    corners = attr.astype(np.float64)[tri[rast[shown][:, 3].astype(int) - 1]]
    u, v = rast[shown][:, 0].astype(np.float64), rast[shown][:, 1].astype(np.float64)
    out = np.zeros((*rast.shape[:2], attr.shape[1]))
    out[shown] = np.einsum("nk,nkc->nc", np.stack([u, v, 1 - u - v], axis=1), corners)
    return out


def is_inside_volume(corners: np.ndarray) -> bool:
    """Every corner before the eye and between near and far."""
    z, w = corners[:, 2], corners[:, 3]
    return bool((w > 0).all() and (abs(z) <= w).all())


def inside_triangle(
    corners: np.ndarray, resolution: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(hit, u, v, z/w), each (H,W), with exact coverage."""
    height, width = resolution
    points = [
        (snap(x / w, width), snap(y / w, height)) for x, y, w in corners[:, [0, 1, 3]].tolist()
    ]
    area = cross(points[0], points[1], points[2])
    hit = np.zeros(resolution, bool)
    shares = np.zeros((*resolution, 3))
    if area == 0:
        return hit, shares[..., 0], shares[..., 1], shares[..., 2]
    if area < 0:
        points = points[::-1]
    for row in range(height):
        for column in range(width):
            sample = (column * SUBPIXELS + SUBPIXELS // 2, row * SUBPIXELS + SUBPIXELS // 2)
            values = [cross(points[k - 2], points[k - 1], sample) for k in range(3)]
            hit[row, column] = all(
                is_left_of(points[k - 2], points[k - 1], value) for k, value in enumerate(values)
            )
            shares[row, column] = [value / abs(area) for value in values]
    if area < 0:
        shares = shares[..., ::-1]
    z = shares @ (corners[:, 2] / corners[:, 3])
    perspective = shares / corners[:, 3]
    perspective /= perspective.sum(axis=-1, keepdims=True)
    return hit, perspective[..., 0], perspective[..., 1], z


def snap(ndc: float, size: int) -> int:
    return math.floor((ndc * 0.5 + 0.5) * size * SUBPIXELS + 0.5)


def cross(p: tuple[int, int], q: tuple[int, int], r: tuple[int, int]) -> int:
    return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])


def is_left_of(p: tuple[int, int], q: tuple[int, int], value: int) -> bool:
    """Is a sample left of the edge p -> q, given its ``cross`` value?

    A sample on the edge counts as if it lay a hair to the right and, far less than that, below:
    such a point is on no edge at all, so it is in exactly one of the triangles around it.
    """
    to_the_right, below = p[1] - q[1], p[0] - q[0]
    return (value, to_the_right, below) > (0, 0, 0)


def cut_triangle(
    corners: np.ndarray, resolution: tuple[int, int], offset: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(hit, u, v, z/w), each (H,W), of the part of a triangle that is in the view volume."""
    height, width = resolution
    matrix = corners[:, [0, 1, 3]].T
    nothing = np.zeros(resolution)
    if np.linalg.matrix_rank(matrix) < 3:
        return nothing > 0, nothing, nothing, nothing
    x = (np.arange(width) + 0.5 + offset[0]) / width * 2 - 1
    y = (np.arange(height) + 0.5 + offset[1]) / height * 2 - 1
    rays = np.stack([*np.meshgrid(x, y), np.ones(resolution)], axis=-1)
    # Scaled so that w = 1: points before the eye only, and z is z/w.
    weights = rays @ np.linalg.inv(matrix).T
    z = weights @ corners[:, 2]
    hit = (weights >= 0).all(axis=-1) & (abs(z) <= 1)
    total = weights.sum(axis=-1)
    total[total == 0] = 1
    return hit, weights[..., 0] / total, weights[..., 1] / total, z
