"""Extends fields that are known at some vertices smoothly over the face's lattice."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import spsolve

from tddfa3.assets.generators.open_face.chart import flat
from tddfa3.assets.generators.synthetic.lattice import Lattice
from tddfa3.assets.generators.synthetic.seeded import FloatArray


def biharmonic_fill(lattice: Lattice, known: FloatArray, stiffness: float = 3e4) -> FloatArray:
    """The field of least bending (bi-Laplacian energy) near the known values.

    The lips are not neighbours, so nothing spreads across the mouth's slit.

    Args:
        lattice: the face's lattice of V vertices.
        known: (V,) or (V, k), NaN in whole rows where nothing is known.
        stiffness: weight of the known values, per vertex, against the bending energy.

    Returns:
        the shape of ``known``.
    """
    stiff, mass = _laplacian(lattice)
    bending = stiff.T @ sparse.diags(1 / mass) @ stiff
    given = np.isfinite(known.reshape(lattice.size, -1)).all(1)
    system = (bending + sparse.diags(stiffness * given)).tocsc()
    return spsolve(system, stiffness * np.nan_to_num(known))


def _laplacian(lattice: Lattice) -> tuple[sparse.csr_matrix, FloatArray]:
    """The cotangent Laplacian (V,V) of the flat lattice and the vertices' areas (V,)."""
    points, triangles = flat(lattice), lattice.triangles
    rows, columns, values = [], [], []
    mass = np.zeros(lattice.size)
    for k in range(3):
        i, j, apex = triangles[:, k], triangles[:, (k + 1) % 3], triangles[:, (k + 2) % 3]
        first, second = points[i] - points[apex], points[j] - points[apex]
        double_area = np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0])
        half_cotangent = 0.5 * (first * second).sum(1) / double_area
        rows += [i, j, i, j]
        columns += [j, i, i, j]
        values += [-half_cotangent, -half_cotangent, half_cotangent, half_cotangent]
        mass += np.bincount(i, double_area / 6, lattice.size)
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_matrix(entries, (lattice.size, lattice.size)), mass
