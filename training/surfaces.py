"""Surfaces that make a head of the morphable model's face, and how they share a texture.

The atlas is the face's texture with a row of square patches below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from training.chart import TEXTURE_SIZE

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int32]

PATCHES = ("cavity", "upper_teeth", "lower_teeth", "tongue", "skin", "hair")
PATCH_SIZE = TEXTURE_SIZE // len(PATCHES)
ATLAS_SHAPE = (TEXTURE_SIZE + PATCH_SIZE, TEXTURE_SIZE, 4)


@dataclass(frozen=True)
class Surface:
    """A mesh in the model frame.

    Attributes:
        positions: (n,3).
        normals: (n,3) unit, outwards.
        texture_xy: (n,2) column and row in the atlas.
        light: (n,) share of the light that reaches it.
        triangles: (t,3).
    """

    positions: Floats
    normals: Floats
    texture_xy: Floats
    light: Floats
    triangles: Indices


def joined(surfaces: Sequence[Surface]) -> Surface:
    """One mesh of all surfaces, of which there must be at least one."""
    starts = np.cumsum([0, *(len(surface.positions) for surface in surfaces)])
    return Surface(
        np.concatenate([surface.positions for surface in surfaces]),
        np.concatenate([surface.normals for surface in surfaces]),
        np.concatenate([surface.texture_xy for surface in surfaces]),
        np.concatenate([surface.light for surface in surfaces]),
        np.concatenate(
            [
                surface.triangles + np.int32(start)
                for surface, start in zip(surfaces, starts, strict=False)
            ]
        ),
    )


def grid(
    patch: str, positions: npt.NDArray[np.floating], light: npt.NDArray[np.floating]
) -> Surface:
    """A patch's picture on a grid of points, seen from +z.

    Args:
        patch: one of ``PATCHES``.
        positions: (rows, columns, 3).
        light: share of the light that reaches it; broadcasts to (rows, columns).
    """
    rows, columns = positions.shape[:2]
    down, along = np.gradient(positions, axis=(0, 1))
    normals = -np.cross(along, down)
    normals *= np.where(normals[..., 2:] < 0, -1, 1)
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9)
    return _surface(patch, rows, columns, positions, normals, light)


def ellipsoid(
    patch: str,
    centre: Sequence[float],
    radii: Sequence[float],
    light: float | npt.NDArray[np.floating] = 1.0,
    rows: int = 13,
    columns: int = 20,
    tilt: float = 0.0,
) -> Surface:
    """A closed ellipsoid.

    Args:
        patch: one of ``PATCHES``.
        centre: (3,) model frame.
        radii: (3,) model units.
        light: share of the light that reaches it, (rows, 1) or one number.
        rows: points from top to bottom.
        columns: points around.
        tilt: radians about z.
    """
    unit = _unit_sphere(rows, columns)
    c, s = np.cos(tilt), np.sin(tilt)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    positions = (unit * np.asarray(radii)) @ turn.T + np.asarray(centre)
    normals = (unit / np.asarray(radii)) @ turn.T
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    return _surface(patch, rows, columns, positions, normals, np.asarray(light))


def kept_behind(surface: Surface, depth: float) -> Surface:
    """The surface with everything in front of the plane z = ``depth`` pushed back onto it."""
    positions = surface.positions.copy()
    positions[:, 2] = np.minimum(positions[:, 2], np.float32(depth))
    return Surface(positions, surface.normals, surface.texture_xy, surface.light, surface.triangles)


def _surface(
    patch: str,
    rows: int,
    columns: int,
    positions: npt.NDArray[np.floating],
    normals: npt.NDArray[np.floating],
    light: npt.NDArray[np.floating],
) -> Surface:
    return Surface(
        positions.reshape(-1, 3).astype(np.float32),
        normals.reshape(-1, 3).astype(np.float32),
        _patch_grid(patch, rows, columns),
        np.broadcast_to(light, (rows, columns)).reshape(-1).astype(np.float32),
        _grid_triangles(rows, columns),
    )


@cache
def _unit_sphere(rows: int, columns: int) -> npt.NDArray[np.float64]:
    polar, around = np.meshgrid(
        np.linspace(0, np.pi, rows), np.linspace(-np.pi, np.pi, columns), indexing="ij"
    )
    return np.stack(
        [np.sin(polar) * np.sin(around), np.cos(polar), np.sin(polar) * np.cos(around)], -1
    )


@cache
def _patch_grid(patch: str, rows: int, columns: int) -> Floats:
    """(rows * columns, 2) column and row in the atlas of a grid over a patch."""
    left = PATCHES.index(patch) * PATCH_SIZE
    # One pixel from the border, so that neighbouring patches do not mix.
    x, y = np.meshgrid(
        np.linspace(left + 1, left + PATCH_SIZE - 2, columns),
        np.linspace(TEXTURE_SIZE + 1, TEXTURE_SIZE + PATCH_SIZE - 2, rows),
    )
    return np.stack([x, y], -1).reshape(-1, 2).astype(np.float32)


@cache
def _grid_triangles(rows: int, columns: int) -> Indices:
    index = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    here, right = index[:-1, :-1].ravel(), index[:-1, 1:].ravel()
    below, across = index[1:, :-1].ravel(), index[1:, 1:].ravel()
    return np.concatenate([np.stack([here, below, right], 1), np.stack([right, below, across], 1)])
