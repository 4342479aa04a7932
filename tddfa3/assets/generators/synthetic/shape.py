"""The synthetic face itself: mean shape, the eight parts, mean albedo."""

from __future__ import annotations

import numpy as np

from tddfa3.assets.generators.synthetic.lattice import (
    EYE_X,
    EYE_Y,
    MOUTH_HALF_WIDTH,
    MOUTH_Y,
    Lattice,
)
from tddfa3.assets.generators.synthetic.seeded import BoolArray, FloatArray, bump

SKIN_RGB = (205.0, 162.0, 140.0)
# In the order of the parts; None keeps the skin's colour.
PART_RGB = (
    (228, 224, 220),
    (228, 224, 220),
    (86, 62, 50),
    (86, 62, 50),
    None,
    (178, 92, 92),
    (190, 100, 98),
    None,
)


def mean_shape(lattice: Lattice) -> FloatArray:
    """(V,3) mean face in the model frame."""
    y = 0.82 * lattice.up + 0.03
    angle = lattice.around * 1.2
    x = 0.82 * np.sin(angle)
    z = _head(angle, y)
    for relief in (*_eyes_and_cheeks(np.abs(x), y), *_nose(x, y), *_mouth_and_chin(x, y)):
        z += relief
    # Pull the underside of the nose down: the surface folds over itself, as above real nostrils.
    y = y - 0.062 * bump(x, 0.13) * bump(y + 0.10, 0.042)
    return np.stack([x, _close_mouth(lattice, x, y), z], 1)


def _head(angle: FloatArray, y: FloatArray) -> FloatArray:
    return (
        0.25
        + 0.75 * (np.cos(angle) - 1.0)
        - 0.22 * np.clip(y, 0, None) ** 2
        - 0.10 * np.clip(-y, 0, None) ** 2
    )


def _eyes_and_cheeks(ax: FloatArray, y: FloatArray) -> list[FloatArray]:
    brow_ridge = 0.05 * bump(y - 0.43, 0.08) * bump(ax - 0.28, 0.20)
    sockets = -(0.10 * bump(ax - EYE_X, 0.17) * bump(y - EYE_Y, 0.10))
    eyeballs = 0.05 * bump(ax - EYE_X, 0.09) * bump(y - EYE_Y, 0.05)
    cheekbones = 0.04 * bump(ax - 0.45, 0.16) * bump(y + 0.05, 0.16)
    return [brow_ridge, sockets, eyeballs, cheekbones]


def _nose(x: FloatArray, y: FloatArray) -> list[FloatArray]:
    ax = np.abs(x)
    heights = [-0.20, -0.155, -0.125, -0.06, 0.02, 0.30, 0.42]
    profile = np.interp(y, heights, [0, 0.03, 0.13, 0.23, 0.21, 0.05, 0.0])
    ridge = profile * bump(x, 0.075 + 0.03 * bump(y + 0.06, 0.08))
    wings = 0.08 * bump(ax - 0.105, 0.045) * bump(y + 0.09, 0.045)
    nostrils = -(0.05 * bump(ax - 0.055, 0.025) * bump(y + 0.135, 0.02))
    return [ridge, wings, nostrils]


def _mouth_and_chin(x: FloatArray, y: FloatArray) -> list[FloatArray]:
    lips = 0.07 * bump(y - MOUTH_Y, 0.075) * bump(x, 0.22)
    line_between = -(0.035 * bump(y - MOUTH_Y, 0.014) * bump(x, 0.24))
    fold = -(0.03 * bump(y + 0.53, 0.05) * bump(x, 0.20))
    chin = 0.07 * bump(x, 0.16) * bump(y + 0.72, 0.12)
    return [lips, line_between, fold, chin]


def _close_mouth(lattice: Lattice, x: FloatArray, y: FloatArray) -> FloatArray:
    """Makes the two rows along the mouth's slit nearly touch."""
    upper, lower = lattice.row == lattice.mouth_row + 1, lattice.row == lattice.mouth_row
    closed = np.abs(x) < MOUTH_HALF_WIDTH
    shift = 0.38 * lattice.spacing
    return y + np.where(closed & upper, -shift, 0.0) + np.where(closed & lower, shift, 0.0)


def part_masks(lattice: Lattice) -> list[BoolArray]:
    """Eight (V,) masks: right and left eye, right and left brow, nose, both lips, skin."""
    x, y, above = lattice.x, lattice.y, lattice.above_mouth

    def eye(side: int) -> BoolArray:
        return ((x - side * EYE_X) / 0.125) ** 2 + ((y - EYE_Y) / 0.055) ** 2 < 1

    def brow(side: int) -> BoolArray:
        arch = 0.455 - 0.9 * (side * x - 0.30) ** 2
        return (np.abs(side * x - 0.30) < 0.18) & (np.abs(y - arch) < 0.032)

    half_width = np.interp(y, [-0.17, -0.09, 0.05, 0.30], [0.155, 0.165, 0.10, 0.055])
    nose = (np.abs(x) < half_width) & (y > -0.17) & (y < 0.30)
    lip_height = 0.085 * np.sqrt(np.clip(1 - (x / 0.27) ** 2, 0, None))
    upper_lip = (np.abs(x) < 0.27) & above & (y < MOUTH_Y + lip_height)
    lower_lip = (np.abs(x) < 0.27) & ~above & (y > MOUTH_Y - 1.1 * lip_height)
    parts = [eye(-1), eye(1), brow(-1), brow(1), nose, upper_lip, lower_lip]
    skin = ~np.any(parts, 0)
    return [*parts, skin]


def mean_albedo(lattice: Lattice, masks: list[BoolArray], blotches: FloatArray) -> FloatArray:
    """(V,3) RGB 0..255, before clipping. ``blotches`` (V,) varies the skin's brightness."""
    x, y = lattice.x, lattice.y
    ax = np.abs(x)
    color = np.tile(np.array(SKIN_RGB), (len(x), 1))
    color += 8 * np.stack([blotches] * 3, 1) * [1, 0.9, 0.8]
    color += np.array([14, -8, -8]) * (bump(ax - 0.42, 0.18) * bump(y + 0.05, 0.18))[:, None]
    for mask, rgb in zip(masks, PART_RGB, strict=True):
        if rgb is not None:
            color[mask] = rgb
    from_eye = np.hypot(ax - EYE_X, y - EYE_Y)
    color[from_eye < 0.040] = (84, 66, 50)  # iris
    color[from_eye < 0.018] = (22, 18, 16)  # pupil
    nostril = bump(ax - 0.055, 0.022) * bump(y + 0.14, 0.018)
    return color * (1 - 0.6 * nostril)[:, None]
