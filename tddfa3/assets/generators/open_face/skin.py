"""The open face's parts, mean albedo and how skin differs between people."""

from __future__ import annotations

import numpy as np

from tddfa3.assets.generators.open_face.expressions import smooth_step
from tddfa3.assets.generators.synthetic.bases import smooth_fields
from tddfa3.assets.generators.synthetic.lattice import EYE_X, EYE_Y, MOUTH_Y, Lattice
from tddfa3.assets.generators.synthetic.seeded import BoolArray, FloatArray, NamedRandom, bump
from tddfa3.assets.generators.synthetic.shape import part_masks

N_ALB = 20
RANDOM_RMS = 6.0
SKIN = np.array([184.0, 141.0, 120.0])
SCLERA, IRIS, PUPIL = (206.0, 200.0, 194.0), (88.0, 66.0, 50.0), (24.0, 20.0, 18.0)
BROW, LIPS, LASHES = (78.0, 58.0, 48.0), (164.0, 92.0, 88.0), (52.0, 40.0, 36.0)
PUPILS = (0.318, 0.305)
"""The pupils' |x| and y on the mean face, in model units."""

ALBEDO_NAMES = (
    "lightness",
    "warmth",
    "redness",
    "brows_dark",
    "lips_red",
    "beard_shadow",
    "eye_shadow",
    "cheeks_red",
    "iris_light",
    "forehead_light",
)


def open_part_masks(lattice: Lattice) -> list[BoolArray]:
    """Eight (V,) masks in the order of the parts; an eye ends at its lids, so that it closes."""
    masks = part_masks(lattice)
    for part, side in ((0, -1), (1, 1)):
        masks[part] = (_eye(lattice) > 0.5) & (side * lattice.x > 0)
    masks[7] = ~np.any(masks[:7], 0)
    return masks


def from_pupil(shape: FloatArray) -> FloatArray:
    """(V,) distance from the nearer pupil's middle, in x and y of the mean face ``shape`` (V,3).

    An iris has a radius of about 0.058, a pupil of 0.02 to 0.03.
    """
    return np.hypot(np.abs(shape[:, 0]) - PUPILS[0], shape[:, 1] - PUPILS[1])


def mean_albedo(lattice: Lattice, shape: FloatArray) -> FloatArray:
    """(V,3) RGB 0..255 of the mean face, whose ``shape`` (V,3) is given."""
    x, y = lattice.x, lattice.y
    ax = np.abs(x)
    color = np.tile(SKIN, (lattice.size, 1))
    color += _cheeks(lattice)[:, None] * [10, -6, -6]
    color *= (1 - 0.14 * _socket(lattice))[:, None]
    color *= (1 - 0.55 * bump(ax - 0.055, 0.026) * bump(y + 0.135, 0.020))[:, None]
    color = _painted(color, _lips(lattice), LIPS, 0.8)
    color = _painted(color, bump(y - MOUTH_Y, 0.010) * (ax < 0.24), (90, 46, 44), 0.7)
    color = _painted(color, _brows(lattice), BROW, 0.8)
    color = _painted(color, _eye(lattice, 0.93), SCLERA, 1.0)
    color = _painted(color, _iris(lattice, shape), IRIS, 1.0)
    pupil = _eye(lattice) * smooth_step(-from_pupil(shape), -0.030, -0.018)
    color = _painted(color, pupil, PUPIL, 1.0)
    return _painted(color, _lashes(lattice), LASHES, 0.75)


def albedo_basis(
    random: NamedRandom, lattice: Lattice, shape: FloatArray, albedo: FloatArray
) -> FloatArray:
    """(3V,20) in grey levels of 0..255: ALBEDO_NAMES, then smooth random blotches; orthogonal.

    A coefficient of 1 is one standard deviation; lightness from -2 to 2 goes from dark to light.
    """
    everywhere = 1 - 0.85 * _eye(lattice)
    hair_free = everywhere * (1 - 0.6 * _brows(lattice))
    beard = smooth_step(-lattice.y, 0.12, 0.40) * (1 - _lips(lattice)) * everywhere
    tinted = [
        (hair_free, albedo * [0.21, 0.27, 0.30]),
        (hair_free, np.array([[4.0, 0.5, -5.0]])),
        (hair_free, np.array([[3.5, -3.0, -2.0]])),
        (_brows(lattice), np.array([[-26.0, -25.0, -24.0]])),
        (_lips(lattice), np.array([[6.0, -14.0, -10.0]])),
        (beard, np.array([[-16.0, -13.0, -10.0]])),
        (_socket(lattice) * everywhere, np.array([[-13.0, -13.0, -11.0]])),
        (_cheeks(lattice), np.array([[7.0, -5.0, -5.0]])),
        (_iris(lattice, shape), np.array([[18.0, 26.0, 32.0]])),
        (smooth_step(lattice.y, 0.35, 0.75), np.array([[9.0, 9.0, 9.0]])),
    ]
    designed = np.stack([(field[:, None] * tint).ravel() for field, tint in tinted], 1)
    count = N_ALB - len(tinted)
    fields = smooth_fields(random("alb"), count, lattice.plane, 0.5)
    tint = random("alb_tint").normal(size=(count, 3)) * 0.35 + 1.0
    blotches = (fields[:, None, :] * tint.T[None] * everywhere[:, None, None]).reshape(-1, count)
    q, r = np.linalg.qr(np.concatenate([designed, blotches], 1))
    signs, lengths = np.sign(np.diag(r)), np.abs(np.diag(r))
    lengths[len(tinted) :] = RANDOM_RMS * np.arange(1, count + 1) ** -0.4 * np.sqrt(lattice.size)
    return q * (signs * lengths)


def _painted(
    color: FloatArray, cover: FloatArray, paint: tuple[float, float, float], opacity: float
) -> FloatArray:
    cover = (opacity * cover)[:, None]
    return color * (1 - cover) + np.array(paint) * cover


def _eye(lattice: Lattice, size: float = 1.0) -> FloatArray:
    """(V,) 1 between the lids, 0 outside; ``size`` shrinks the opening."""
    across = (np.abs(lattice.x) - EYE_X) / 0.118
    half = np.where(lattice.y > EYE_Y, 0.0465, 0.044)
    return (across**2 + ((lattice.y - EYE_Y) / half) ** 2 < size**2).astype(float)


def _iris(lattice: Lattice, shape: FloatArray) -> FloatArray:
    return _eye(lattice) * smooth_step(-from_pupil(shape), -0.062, -0.052)


def _lashes(lattice: Lattice) -> FloatArray:
    """(V,) along the upper lid, and weaker along the lower one."""
    across = (np.abs(lattice.x) - EYE_X) / 0.118
    bow = np.sqrt(np.clip(1 - across**2, 0, None))
    upper = bump(lattice.y - EYE_Y - 0.0465 * bow, 0.009)
    lower = bump(lattice.y - EYE_Y + 0.044 * bow, 0.007)
    return (np.abs(across) < 1.03) * np.maximum(upper, 0.35 * lower)


def _brows(lattice: Lattice) -> FloatArray:
    """(V,) hair of the brows, thinner towards the temples."""
    ax, y = np.abs(lattice.x), lattice.y
    arch = 0.455 - 0.9 * (ax - 0.30) ** 2
    thick = 0.034 - 0.020 * smooth_step(ax, 0.25, 0.48)
    along = smooth_step(ax, 0.10, 0.16) * smooth_step(-ax, -0.49, -0.42)
    return along * smooth_step(-np.abs(y - arch) / thick, -1.15, -0.55)


def _lips(lattice: Lattice) -> FloatArray:
    """(V,) red of the lips."""
    x, y = lattice.x, lattice.y - MOUTH_Y
    bow = np.sqrt(np.clip(1 - (x / 0.255) ** 2, 0, None))
    over, under = y / (0.077 * bow + 1e-6), -y / (0.084 * bow + 1e-6)
    cover = smooth_step(-np.maximum(over, under), -1.12, -0.85)
    return cover * smooth_step(-np.abs(x), -0.265, -0.22)


def _cheeks(lattice: Lattice) -> FloatArray:
    return bump(np.abs(lattice.x) - 0.42, 0.18) * bump(lattice.y + 0.05, 0.18)


def _socket(lattice: Lattice) -> FloatArray:
    """(V,) the shaded skin around the eyes."""
    over = np.where(lattice.y > EYE_Y, 0.10, 0.075)
    return bump(np.abs(lattice.x) - EYE_X, 0.15) * bump(lattice.y - EYE_Y, over)
