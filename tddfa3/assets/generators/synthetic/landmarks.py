"""Landmark vertices of the synthetic face, and the contour rows landmark marching searches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tddfa3.assets.generators.synthetic.lattice import EYE_X, EYE_Y, MOUTH_Y, Lattice
from tddfa3.assets.generators.synthetic.seeded import FloatArray, IntArray

N_CONTOUR = 33
CHIN = 16


@dataclass(frozen=True)
class Outlines:
    """Where along the eyes' and the lips' outlines the landmarks lie; the defaults are even.

    ``eye`` (8,2) is the right eye's, from the outer corner over the upper lid and back under the
    eye, in half widths and half heights; the left eye's is its mirror image. The lips' are x on the
    undeformed face in the order of the layouts: the outer outline's upper and lower half, the
    inner one's.
    """

    eye: tuple[tuple[float, float], ...] = (
        *((-1, 0), (-0.55, 0.85), (0, 1.05), (0.55, 0.85), (1, 0)),
        *((0.55, -0.8), (0, -1), (-0.55, -0.8)),
    )
    outer_upper: tuple[float, ...] = tuple(np.linspace(-0.25, 0.25, 7))
    outer_lower: tuple[float, ...] = tuple(np.linspace(0.17, -0.17, 5))
    inner_upper: tuple[float, ...] = (-0.20, -0.09, 0, 0.09, 0.20)
    inner_lower: tuple[float, ...] = (0.09, 0, -0.09)


EVEN_OUTLINES = Outlines()


def landmark_targets(
    outlines: Outlines = EVEN_OUTLINES,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Places on the undeformed face: 73 of the 106 layout, 51 of the 68 layout, 28 of the 134's.

    The contour, which comes first in all three, is found on the lattice instead.
    """
    brow_upper, brow_lower = (
        _brow(np.linspace(-0.46, -0.14, 5), 0.02),
        _brow(np.linspace(-0.46, -0.14, 5)[1:], -0.02),
    )
    ridge = np.array([[0, 0.26], [0, 0.15], [0, 0.05], [0, -0.05]])
    wing_right = np.array([[-0.10, 0.0], [-0.15, -0.08], [-0.12, -0.125], [-0.06, -0.145]])
    wing = np.concatenate(
        [[[-0.06, 0.20], [0.06, 0.20]], wing_right, [[0, -0.155]], _mirror(wing_right)]
    )
    outer_lip = np.concatenate(
        [_lip(outlines.outer_upper, 0.075), _lip(outlines.outer_lower, -0.08)]
    )
    inner_lip = np.concatenate(
        [_lip(outlines.inner_upper, 0.014), _lip(outlines.inner_lower, -0.014)]
    )
    pupils = np.array([[-EYE_X, EYE_Y], [EYE_X, EYE_Y]])
    brows = [brow_upper, brow_lower, _mirror(brow_upper), _mirror(brow_lower)]
    right_eye, left_eye = _eye(-1, outlines), _eye(1, outlines)
    eyes = [right_eye, pupils[:1], left_eye, pupils[1:]]
    of_106 = np.concatenate([*brows, ridge, wing, *eyes, outer_lip, inner_lip, pupils])
    six = [0, 1, 3, 4, 5, 7]
    of_68 = np.concatenate(
        [
            brow_upper,
            _mirror(brow_upper),
            ridge,
            wing[4:9],
            right_eye[six],
            left_eye[six],
            outer_lip,
            inner_lip,
        ]
    )
    return of_106, of_68, _forehead_and_cheeks()


def _mirror(points: FloatArray) -> FloatArray:
    return (points * [-1, 1])[::-1]


def _brow(x: FloatArray, offset: float) -> FloatArray:
    return np.stack([x, 0.455 - 0.9 * (np.abs(x) - 0.30) ** 2 + offset], 1)


def _eye(side: int, outlines: Outlines) -> FloatArray:
    outline = outlines.eye
    if side > 0:
        outline = tuple((-c, t) for c, t in (*outline[4::-1], *outline[:4:-1]))
    return np.array([[side * EYE_X + 0.115 * c, EYE_Y + 0.045 * t] for c, t in outline])


def _lip(along: tuple[float, ...], height: float) -> FloatArray:
    x = np.array(along)
    return np.stack([x, MOUTH_Y + height * np.sqrt(np.clip(1 - (x / 0.255) ** 2, 0, None))], 1)


def _forehead_and_cheeks() -> FloatArray:
    forehead = np.stack([np.linspace(-0.25, 0.25, 8)] * 2, 1) * [1, 0] + [0, 0.66]
    cheek = [
        (0.45, 0.12),
        (0.45, -0.10),
        (0.38, -0.30),
        (0.20, 0.05),
        (0.55, 0.30),
        (0.33, -0.50),
        (0.50, -0.25),
    ]
    cheeks = np.array([[side * x, y] for side in (-1, 1) for x, y in cheek])
    middle = np.array([[0, y] for y in (0.36, -0.23, -0.52, -0.62, -0.72, 0.56)])
    return np.concatenate([forehead, cheeks, middle])


def contour_and_parallel(
    lattice: Lattice, heights: FloatArray | None = None, reach: FloatArray | None = None
) -> tuple[IntArray, list[IntArray]]:
    """(33,) contour vertices, image-left ear over chin to the other ear, and each one's row.

    ``heights`` (17,) are the rows' y on the undeformed face, from an ear down to the chin;
    ``reach`` (17,) is where on its half row a contour vertex lies, 0 in the middle, 1 at the rim.
    """
    if heights is None:
        drop = np.sin(np.linspace(0, np.pi / 2, CHIN + 1))
        heights = 0.30 - (0.30 + 0.84) * drop
    if reach is None:
        reach = np.full(CHIN + 1, 0.93)
    rows = [lattice.row[np.argmin(np.abs(lattice.y - height))] for height in heights]
    contour, parallel = [], []
    for i in range(N_CONTOUR):
        level = i if i <= CHIN else N_CONTOUR - 1 - i
        strip, vertex = _contour_strip(lattice, rows[level], np.sign(i - CHIN), reach[level])
        contour.append(vertex)
        parallel.append(np.sort(strip).astype(np.int64))
    return np.array(contour), parallel


def _contour_strip(lattice: Lattice, row: int, side: int, reach: float) -> tuple[IntArray, int]:
    """The vertices of a lattice row on one side, and the contour's vertex among them.

    ``side`` is -1 for the image's left, 0 for the chin, 1 for the image's right.
    """
    around = lattice.around
    vertices = np.flatnonzero(lattice.row == row)
    edge = np.abs(around[vertices]).max()
    if side == 0:
        strip = vertices[np.abs(around[vertices]) < 0.10]
        return strip, strip[np.argmin(np.abs(around[strip]))]
    strip = vertices[side * around[vertices] > 0.12 * edge]
    strip = strip[np.abs(around[strip]) > 0.45 * edge]
    return strip, strip[np.argmin(np.abs(np.abs(around[strip]) - reach * edge))]


def landmark_vertices(
    lattice: Lattice, contour: IntArray, outlines: Outlines = EVEN_OUTLINES
) -> dict[str, IntArray]:
    """Vertex indices of the 68, 106 and 134 layouts."""
    of_106, of_68, of_134 = landmark_targets(outlines)
    ldm106 = np.concatenate([contour, _nearest_vertices(lattice, of_106)])
    ldm68 = np.concatenate([contour[::2], _nearest_vertices(lattice, of_68)])
    ldm134 = np.concatenate([ldm106, _nearest_vertices(lattice, of_134)])
    return {"68": ldm68, "106": ldm106, "134": ldm134}


def _nearest_vertices(lattice: Lattice, points: FloatArray) -> IntArray:
    """Nearest vertex; near the mouth only vertices of the same lip count."""
    plane, above = lattice.plane, lattice.above_mouth

    def nearest(pool: IntArray) -> IntArray:
        squared = ((plane[pool][None] - points[:, None]) ** 2).sum(-1)
        return pool[np.argmin(squared, 1)]

    on_lips = np.where(
        points[:, 1] >= MOUTH_Y, nearest(np.flatnonzero(above)), nearest(np.flatnonzero(~above))
    )
    near_mouth = np.abs(points[:, 1] - MOUTH_Y) < 0.12
    return np.where(near_mouth, on_lips, nearest(np.arange(lattice.size)))
