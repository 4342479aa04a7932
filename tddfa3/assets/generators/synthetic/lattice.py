"""The flat lattice behind the synthetic face: where its vertices lie and how they are joined."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tddfa3.assets.generators.synthetic.seeded import BoolArray, FloatArray, IntArray
from tddfa3.errors import AssetError

FULL_VERTICES = 35709
MIN_VERTICES = 1000
FULL_SPACING = 0.00960

# Units as in the Basel Face Model: 1 unit is about 101.5 px in the 224 px crop.
# Axes: x to the image's right, y up, z towards the camera. The subject's right eye has x < 0.
EYE_X, EYE_Y = 0.31, 0.29
MOUTH_Y, MOUTH_HALF_WIDTH = -0.38, 0.26
# Half extents of the flat domain: ``around`` the head, ``up`` along it.
HALF_AROUND, HALF_UP = 0.98, 1.12


@dataclass(frozen=True)
class Lattice:
    """Vertices of a square lattice inside a face-shaped oval, with a slit along the mouth.

    ``around`` and ``up`` (V,) are flat coordinates, ``row`` (V,) the lattice row (growing upwards),
    ``triangles`` (T,3) counter-clockwise seen from +z, ``mouth_row`` the lower lip's last row.
    """

    around: FloatArray
    up: FloatArray
    row: IntArray
    triangles: IntArray
    mouth_row: int
    spacing: float

    @property
    def size(self) -> int:
        """V, the number of vertices."""
        return len(self.around)

    @property
    def x(self) -> FloatArray:
        """(V,) x of the undeformed face."""
        return 0.82 * np.sin(1.2 * self.around)

    @property
    def y(self) -> FloatArray:
        """(V,) y of the undeformed face."""
        return 0.82 * self.up + 0.03

    @property
    def plane(self) -> FloatArray:
        """(V,2) x and y of the undeformed face."""
        return np.stack([self.x, self.y], 1)

    @property
    def above_mouth(self) -> BoolArray:
        """(V,) True above the mouth slit."""
        return self.row > self.mouth_row


@dataclass(frozen=True)
class Stretch:
    """Uneven spacing of the lattice lines: tables from where a line would lie to where it lies.

    ``even`` (n,) growing, ``around`` (n,) and ``up`` (n,) growing; linear between the entries.
    ``mouth`` is half the width of the mouth's slit in flat coordinates.
    """

    even: FloatArray
    around: FloatArray
    up: FloatArray
    mouth: float


def make_lattice(vertices: int = FULL_VERTICES, stretch: Stretch | None = None) -> Lattice:
    """A lattice of exactly ``vertices`` points, each used by a triangle; even without ``stretch``.

    Cutting the oval at an arbitrary count can leave a lone point on its rim; a slightly finer
    spacing moves the rim, so spacings are tried until no point is left alone.
    """
    if vertices < MIN_VERTICES:
        raise AssetError(
            f"vertices={vertices} is too few for a synthetic face; use {MIN_VERTICES} or more"
        )
    spacing = FULL_SPACING * math.sqrt(FULL_VERTICES / vertices)
    for attempt in range(100):
        lattice = _cut_lattice(vertices, spacing * (1.0 - 0.001 * attempt), stretch)
        if len(np.unique(lattice.triangles)) == vertices:
            return lattice
    raise AssetError(f"no lattice of exactly vertices={vertices} points; use another count")


def _cut_lattice(vertices: int, spacing: float, stretch: Stretch | None) -> Lattice:
    n_around, n_up = int(np.ceil(1.02 / spacing)), int(np.ceil(1.35 / spacing))
    columns, rows = np.meshgrid(np.arange(-n_around, n_around + 1), np.arange(-n_up, n_up + 1))
    column, row = columns.ravel(), rows.ravel()
    around: FloatArray = column * spacing
    up: FloatArray = (row + 0.5) * spacing
    jaw = 1.0 - 0.20 * np.clip(-up / HALF_UP, 0, 1) ** 1.5  # narrower than the forehead
    radius = np.abs(around / (HALF_AROUND * jaw)) ** 2.2 + np.abs(up / HALF_UP) ** 2.2
    keep = np.lexsort((column, row, np.round(radius, 9)))[:vertices]
    keep = keep[np.lexsort((column[keep], -row[keep]))]  # top row first, left to right
    column, row, around, up = column[keep], row[keep], around[keep], up[keep]
    mouth_up, slit = (MOUTH_Y - 0.03) / 0.82, MOUTH_HALF_WIDTH * 1.05
    if stretch is not None:
        around = np.interp(around, stretch.even, stretch.around)
        up = np.interp(up, stretch.even, stretch.up)
        mouth_up = float(np.interp(mouth_up, stretch.up, stretch.even))
        slit = float(np.interp(stretch.mouth, stretch.around, stretch.even))
    mouth_row = int(np.floor(mouth_up / spacing - 0.5))
    triangles = _triangulate(column, row, mouth_row, slit / spacing)
    return Lattice(around, up, row, triangles, mouth_row, spacing)


def _triangulate(column: IntArray, row: IntArray, mouth_row: int, slit: float) -> IntArray:
    """Two triangles per cell, but for the cells along ``mouth_row`` within ``slit`` columns."""
    index = {
        cell: number for number, cell in enumerate(zip(column.tolist(), row.tolist(), strict=True))
    }
    triangles: list[tuple[int | None, ...]] = []
    for (c, r), here in index.items():
        if r == mouth_row and abs(c + 0.5) < slit:
            continue
        right, above, across = (
            index.get((c + 1, r)),
            index.get((c, r + 1)),
            index.get((c + 1, r + 1)),
        )
        halves: tuple[tuple[int | None, ...], ...]
        # The diagonal is mirrored at x = 0, so that the two halves of the face are alike.
        if c >= 0:
            halves = ((here, right, across), (here, across, above))
        else:
            halves = ((here, right, above), (right, across, above))
        triangles += [half for half in halves if None not in half]
    return np.array(triangles, np.int64)


def triangles_around_vertices(triangles: IntArray, vertices: int, width: int = 8) -> IntArray:
    """(V, width) indices of the triangles around each vertex, padded with the triangle count."""
    order = np.argsort(triangles.ravel(), kind="stable")
    owners, corner_vertices = order // 3, triangles.ravel()[order]
    start = np.searchsorted(corner_vertices, np.arange(vertices))
    slot = np.arange(len(corner_vertices)) - start[corner_vertices]
    table = np.full((vertices, width), len(triangles), np.int64)
    table[corner_vertices, slot] = owners
    return table
