"""The open face's flat chart: an uneven lattice, the contour's rows, the places of features."""

from __future__ import annotations

import numpy as np

from tddfa3.assets.generators.synthetic.landmarks import (
    CHIN,
    Outlines,
    contour_and_parallel,
    landmark_vertices,
)
from tddfa3.assets.generators.synthetic.lattice import (
    HALF_AROUND,
    HALF_UP,
    MOUTH_Y,
    Lattice,
    Stretch,
    make_lattice,
)
from tddfa3.assets.generators.synthetic.seeded import BoolArray, FloatArray, IntArray, bump

# Half the mouth's slit in flat coordinates: it ends at the inner corners of the lips.
MOUTH_SLIT = 0.2425
# The contour's rows from an ear (0) to the chin (8): y on the undeformed face, and how far out on
# its row a contour vertex lies (0 in the middle, 1 at the rim).
CONTOUR_Y = (0.37, 0.08, -0.07, -0.37, -0.50, -0.59, -0.72, -0.795, -0.81)
CONTOUR_REACH = (0.93, 0.93, 0.93, 0.93, 0.93, 0.92, 0.75, 0.47, 0.0)
# Where MediaPipe's points lie along the outlines; even ones would shear the eyes and the lips.
OUTLINES = Outlines(
    eye=(
        *((-1, 0), (-0.48, 0.90), (-0.10, 1.03), (0.28, 0.99), (1, 0)),
        *((0.36, -0.91), (0, -0.98), (-0.38, -0.905)),
    ),
    outer_upper=(-0.25, -0.147, -0.072, 0, 0.072, 0.147, 0.25),
    outer_lower=(0.136, 0.071, 0, -0.071, -0.136),
    inner_upper=(-0.215, -0.055, 0, 0.055, 0.215),
    inner_lower=(0.058, 0, -0.058),
)


def open_lattice(vertices: int) -> Lattice:
    """A lattice of ``vertices`` points, denser around the eyes, the nose and the mouth."""
    even = np.linspace(-1.4, 1.4, 561)
    rows = 1 - 0.5 * bump(even - 0.36, 0.17) - 0.5 * bump(even + 0.48, 0.17)
    columns = 1 - 0.4 * bump(even, 0.5)
    stretch = Stretch(
        even=even,
        around=_spaced(even, columns, HALF_AROUND),
        up=_spaced(even, rows, HALF_UP),
        mouth=MOUTH_SLIT,
    )
    return make_lattice(vertices, stretch)


def _spaced(even: FloatArray, spacing: FloatArray, half: float) -> FloatArray:
    """Positions of ``even`` whose spacing is proportional to ``spacing``; -half..half stays."""
    steps = (spacing[1:] + spacing[:-1]) / 2 * np.diff(even)
    position = np.concatenate([[0.0], np.cumsum(steps)])
    low, high = np.interp([-half, half], even, position)
    return (position - (low + high) / 2) * (2 * half / (high - low))


def open_landmarks(lattice: Lattice) -> tuple[dict[str, IntArray], list[IntArray]]:
    """The vertices of the 68, 106 and 134 layouts, and the 33 rows of landmark marching."""
    levels = np.arange(CHIN + 1) / 2
    contour, parallel = contour_and_parallel(
        lattice,
        np.interp(levels, range(len(CONTOUR_Y)), CONTOUR_Y),
        np.interp(levels, range(len(CONTOUR_REACH)), CONTOUR_REACH),
    )
    return landmark_vertices(lattice, contour, OUTLINES), parallel


def flat(lattice: Lattice) -> FloatArray:
    """(V,2) flat coordinates around and up."""
    return np.stack([lattice.around, lattice.up], 1)


def face_plane(uv: FloatArray) -> FloatArray:
    """(V,2) x and y of the undeformed face, where the features have their standard places.

    ``uv`` (V,2) are the face's texture coordinates. Eyes lie at (+-0.31, 0.29), brows along
    y = 0.455 - 0.9 (|x| - 0.30)^2, the lips' line at y = -0.38: places to paint on any face of this
    chart, whatever its shape.
    """
    around, up = (uv[:, 0] - 0.5) * 2.2, (uv[:, 1] - 0.5) * 2.44
    return np.stack([0.82 * np.sin(1.2 * around), 0.82 * up + 0.03], 1)


def lip_rows(lattice: Lattice) -> tuple[IntArray, IntArray, BoolArray]:
    """The vertices along the mouth's slit.

    Returns:
        from one end to the other: (n,) the upper lip's vertices, (n,) the lower lip's in the same
        order, and (n,) whether the lips are joined there, which is so at the two ends.
    """
    above = np.flatnonzero(lattice.row == lattice.mouth_row + 1)
    below = np.flatnonzero(lattice.row == lattice.mouth_row)
    _, first, second = np.intersect1d(
        lattice.around[above], lattice.around[below], return_indices=True
    )
    above, below = above[first], below[second]
    row = lattice.row[lattice.triangles]
    upper, lower = row == lattice.mouth_row + 1, row == lattice.mouth_row
    between = lattice.triangles[upper.any(1) & lower.any(1)]
    joined = np.array(
        [
            bool(((between == up).any(1) & (between == down).any(1)).any())
            for up, down in zip(above, below, strict=True)
        ]
    )
    start, stop = np.flatnonzero(~joined)[[0, -1]]
    slit = slice(start - 1, stop + 2)
    return above[slit], below[slit], joined[slit]


def touching_plane(lattice: Lattice) -> FloatArray:
    """(V,2) x and y of the undeformed face, both lips' rows along the slit on one line.

    A field on these places moves lips that touch alike, so that it can't part them.
    """
    plane = lattice.plane
    upper, lower, _ = lip_rows(lattice)
    plane[np.concatenate([upper, lower]), 1] = MOUTH_Y
    return plane
