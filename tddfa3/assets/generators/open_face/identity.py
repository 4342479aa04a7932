"""Identity of the open face: proportions that differ between people, then smooth random shapes."""

from __future__ import annotations

import numpy as np

from tddfa3.assets.generators.open_face.chart import touching_plane
from tddfa3.assets.generators.open_face.expressions import smooth_step
from tddfa3.assets.generators.synthetic.bases import smooth_fields
from tddfa3.assets.generators.synthetic.lattice import EYE_X, EYE_Y, MOUTH_Y, Lattice
from tddfa3.assets.generators.synthetic.seeded import FloatArray, NamedRandom, bump

N_ID = 40
# Root mean square movement per vertex of the first random shape; later ones are smaller.
RANDOM_RMS = 0.006

IDENTITY_NAMES = (
    "face_width",
    "face_length",
    "depth",
    "lower_face_length",
    "jaw_width",
    "chin_forward",
    "chin_width",
    "eye_distance",
    "eye_height",
    "eye_opening",
    "eye_width",
    "eye_tilt",
    "eye_depth",
    "nose_length",
    "nose_width",
    "nose_forward",
    "nose_bridge",
    "nose_tip_up",
    "mouth_height",
    "mouth_width",
    "lip_fullness",
    "mouth_forward",
    "forehead_slope",
    "forehead_width",
    "brow_height",
    "brow_arch",
    "brow_ridge",
    "cheekbones",
    "cheek_fullness",
    "nose_sideways",
    "jaw_sideways",
)


def identity_basis(random: NamedRandom, lattice: Lattice, shape: FloatArray) -> FloatArray:
    """The identity basis (3V, 40); a coefficient of 1 is one standard deviation of a population.

    The columns are orthogonal. The first are IDENTITY_NAMES, each orthogonalised against those
    before it.
    """
    designed = np.stack([field.ravel() for field in _proportions(lattice, shape)], 1)
    count, plane = N_ID - designed.shape[1], touching_plane(lattice)
    axes = [smooth_fields(random(f"id{axis}"), count, plane, 0.75) for axis in range(3)]
    smooth = np.stack(axes, 1).reshape(-1, count)
    q, r = np.linalg.qr(np.concatenate([designed, smooth], 1))
    signs, lengths = np.sign(np.diag(r)), np.abs(np.diag(r))
    random_lengths = RANDOM_RMS * np.arange(1, count + 1) ** -0.5 * np.sqrt(lattice.size)
    lengths[designed.shape[1] :] = random_lengths
    return q * (signs * lengths)


def _odd(x: FloatArray, peak: float) -> FloatArray:
    """Odd in x, +-1 at ``peak``, without a kink in the middle."""
    u = x / peak
    return u * np.exp((1 - u**2) / 2)


def _proportions(lattice: Lattice, shape: FloatArray) -> list[FloatArray]:
    """One (V,3) displacement for each of IDENTITY_NAMES."""
    x, y = touching_plane(lattice).T
    ax, zero = np.abs(x), np.zeros(lattice.size)
    wide, tall, deep = shape.T
    side = np.tanh(x / 0.10)

    def move(dx: FloatArray = zero, dy: FloatArray = zero, dz: FloatArray = zero) -> FloatArray:
        return np.stack([dx, dy, dz], 1)

    lateral = smooth_step(ax, 0.10, 0.75)
    below_nose = smooth_step(-y, 0.0, 0.85)
    jaw = smooth_step(-y, 0.05, 0.50)
    chin = bump(x, 0.20) * bump(y + 0.78, 0.20)
    eye = bump(ax - EYE_X, 0.19) * bump(y - EYE_Y, 0.11)
    in_eye = bump(ax - EYE_X, 0.16) * bump(y - EYE_Y, 0.075)
    nose = bump(x, 0.15) * bump(y + 0.06, 0.16)
    tip = bump(x, 0.13) * bump(y + 0.06, 0.10)
    bridge = bump(x, 0.11) * bump(y - 0.18, 0.15)
    mouth = bump(x, 0.32) * bump(y - MOUTH_Y, 0.15)
    over_lip = (y - MOUTH_Y) / 0.08
    lips = over_lip * np.exp((1 - over_lip**2) / 2) * bump(x, 0.20)
    forehead = smooth_step(y, 0.45, 0.95)
    brow = bump(ax - 0.32, 0.28) * bump(y - 0.46, 0.12)
    return [
        move(dx=0.045 * wide),
        move(dy=0.045 * tall),
        move(dz=0.05 * (deep - 0.15)),
        move(dy=-0.050 * below_nose),
        move(dx=0.036 * side * lateral * jaw),
        move(dz=0.030 * chin),
        move(dx=0.022 * _odd(x, 0.24) * bump(y + 0.76, 0.20)),
        move(dx=0.016 * side * eye),
        move(dy=0.014 * eye),
        move(dy=0.16 * (tall - 0.30) * in_eye),
        move(dx=0.05 * side * (np.abs(wide) - 0.317) * eye),
        move(dy=0.07 * (np.abs(wide) - 0.317) * eye),
        move(dz=0.015 * eye),
        move(dy=-0.026 * nose),
        move(dx=0.014 * _odd(x, 0.11) * bump(y + 0.08, 0.12)),
        move(dz=0.030 * tip),
        move(dz=0.018 * bridge),
        move(dy=0.018 * tip, dz=-0.004 * tip),
        move(dy=0.018 * mouth),
        move(dx=0.020 * _odd(x, 0.25) * bump(y - MOUTH_Y, 0.15)),
        move(dy=0.010 * lips, dz=0.008 * bump(x, 0.2) * lips**2),
        move(dz=0.020 * mouth),
        move(dz=0.030 * forehead * (1 - lateral)),
        move(dx=0.025 * side * lateral * smooth_step(y, 0.15, 0.70)),
        move(dy=0.020 * brow),
        move(dy=0.012 * brow * np.tanh((ax - 0.30) / 0.12)),
        move(dz=0.014 * bump(ax - 0.28, 0.24) * bump(y - 0.43, 0.09)),
        move(
            dx=0.010 * side * bump(ax - 0.48, 0.18) * bump(y + 0.02, 0.16),
            dz=0.018 * bump(ax - 0.45, 0.18) * bump(y + 0.02, 0.16),
        ),
        move(
            dx=0.010 * side * bump(ax - 0.45, 0.2) * bump(y + 0.28, 0.2),
            dz=0.022 * bump(ax - 0.42, 0.2) * bump(y + 0.28, 0.2),
        ),
        move(dx=0.010 * nose),
        move(dx=0.016 * below_nose),
    ]
