"""Linear bases of the synthetic face model: identity, expression, albedo."""

from __future__ import annotations

import numpy as np

from tddfa3.assets.generators.synthetic.lattice import (
    EYE_X,
    EYE_Y,
    MOUTH_HALF_WIDTH,
    MOUTH_Y,
    Lattice,
)
from tddfa3.assets.generators.synthetic.seeded import FloatArray, NamedRandom, bump

N_ID, N_EXP, N_ALB = 80, 64, 80


def smooth_fields(
    random: np.random.Generator, count: int, plane: FloatArray, scale: float
) -> FloatArray:
    """(V,count) smooth random fields: sums of Gaussian bumps, about half of them symmetric."""
    fields = np.empty((len(plane), count))
    for k in range(count):
        width = scale * (0.9 - 0.6 * k / count)
        field = np.zeros(len(plane))
        symmetric = random.random() < 0.5
        for _ in range(5):
            x, y, height = random.uniform(-0.8, 0.8), random.uniform(-0.9, 0.9), random.normal()
            field += height * bump(np.hypot(plane[:, 0] - x, plane[:, 1] - y), width)
            if symmetric:
                field += height * bump(np.hypot(plane[:, 0] + x, plane[:, 1] - y), width)
        fields[:, k] = field
    return fields


def orthonormal(basis: FloatArray) -> FloatArray:
    """Orthogonal columns of root mean square 1 per vertex; the sign of each column is fixed."""
    q, r = np.linalg.qr(basis)
    return q * np.sign(np.diag(r)) * np.sqrt(len(basis) / 3)


def identity_basis(random: NamedRandom, lattice: Lattice) -> FloatArray:
    """(3V,80): unit coefficient k moves the vertices by 0.030 k^-0.75 units (rms)."""
    axes = [smooth_fields(random(f"id{axis}"), N_ID, lattice.plane, 0.75) for axis in range(3)]
    return orthonormal(np.stack(axes, 1).reshape(-1, N_ID)) * (
        0.030 * np.arange(1, N_ID + 1) ** -0.75
    )


def albedo_basis(random: NamedRandom, lattice: Lattice) -> FloatArray:
    """(3V,80) in grey levels of 0..255."""
    fields = smooth_fields(random("alb"), N_ALB, lattice.plane, 0.6)
    tint = random("alb_tint").normal(size=(N_ALB, 3)) * 0.35 + 1.0
    basis = orthonormal((fields[:, None, :] * tint.T[None]).reshape(-1, N_ALB))
    return basis * (9.0 * np.arange(1, N_ALB + 1) ** -0.8)


def expression_basis(random: NamedRandom, lattice: Lattice) -> FloatArray:
    """(3V,64): designed movements of jaw, lips, lids and brows first, random local ones after."""
    designed = _designed_movements(lattice)
    local = _local_movements(random("exp"), lattice, N_EXP - len(designed))
    basis = orthonormal(np.stack(designed + local, 1))
    return basis * (0.016 * np.arange(1, N_EXP + 1) ** -0.45)


def _displacement(
    lattice: Lattice,
    dx: FloatArray | None = None,
    dy: FloatArray | None = None,
    dz: FloatArray | None = None,
) -> FloatArray:
    zero = np.zeros(lattice.size)
    axes = [zero if axis is None else axis for axis in (dx, dy, dz)]
    return np.stack(axes, 1).ravel()


def _designed_movements(lattice: Lattice) -> list[FloatArray]:
    x, y, above = lattice.x, lattice.y, lattice.above_mouth
    ax, side = np.abs(x), np.sign(x)
    mouth = bump(x, 0.30) * bump(y - MOUTH_Y, 0.20)
    below = np.clip((MOUTH_Y + 0.05 - y) / 0.12, 0, 1)
    jaw = np.where(~above, bump(x, 0.34) * below, 0)
    upper_lid = np.clip((y - EYE_Y + 0.02) / 0.05, 0, 1)
    lid = bump(ax - EYE_X, 0.11) * upper_lid * bump(y - EYE_Y - 0.03, 0.06)
    brow = bump(ax - 0.30, 0.18) * bump(y - 0.45, 0.08)
    corner = bump(ax - MOUTH_HALF_WIDTH, 0.10) * bump(y - MOUTH_Y, 0.10)
    movements: list[dict[str, FloatArray]] = [
        {"dy": -jaw, "dz": -0.3 * jaw},
        {"dx": side * corner, "dy": 0.6 * corner},
        {"dy": -lid},
        {"dy": brow},
        {"dy": -brow, "dx": -side * 0.4 * brow},
        {"dz": mouth},
        {"dx": -x * mouth * 3},
        {"dy": corner},
        {"dy": brow * side},
        {"dy": -lid * side},
        {"dx": mouth},
        {"dx": jaw},
        {"dy": np.where(above, mouth, 0)},
        {"dz": bump(ax - 0.4, 0.15) * bump(y + 0.2, 0.2)},
    ]
    return [_displacement(lattice, **movement) for movement in movements]


def _local_movements(random: np.random.Generator, lattice: Lattice, count: int) -> list[FloatArray]:
    x, y = lattice.x, lattice.y
    movements = []
    for _ in range(count):
        at_x = random.uniform(0, 0.45)
        at_y = random.choice([MOUTH_Y, EYE_Y, 0.45]) + random.uniform(-0.1, 0.1)
        width = random.uniform(0.08, 0.2)
        field = bump(np.hypot(np.abs(x) - at_x, y - at_y), width)
        field = field * (np.sign(x) if random.random() < 0.4 else 1)
        direction = random.normal(size=3)
        movements.append(_displacement(lattice, *(direction[:, None] * field)))
    return movements
