"""The open face's mean shape: measured proportions, joined smoothly, and the relief of details."""

from __future__ import annotations

import numpy as np

from tddfa3.assets.generators.open_face.chart import flat, lip_rows
from tddfa3.assets.generators.open_face.proportions import landmark_places, places_between
from tddfa3.assets.generators.open_face.spline import thin_plate
from tddfa3.assets.generators.synthetic.lattice import EYE_X, EYE_Y, MOUTH_Y, Lattice
from tddfa3.assets.generators.synthetic.seeded import FloatArray, IntArray, bump

# The landmarks are met to a hundredth of a crop pixel or so, the points between them smoothly.
LANDMARK_SMOOTHING, BETWEEN_SMOOTHING = 1e-6, 3e-4
# Of the gap between the lips, what stays at the mouth's corners.
CORNER_GAP = 0.15


def mean_shape(lattice: Lattice, landmarks68: IntArray) -> FloatArray:
    """(V,3) mean face in the model frame; ``landmarks68`` are its vertices of the 68 landmarks."""
    plane = flat(lattice)
    between, places = places_between()
    points = np.concatenate([plane[landmarks68], between])
    values = np.concatenate([landmark_places(), places])
    smoothing = np.repeat([LANDMARK_SMOOTHING, BETWEEN_SMOOTHING], [68, len(between)])
    shape = thin_plate(points, values, smoothing, plane)
    shape[:, 2] += _relief(lattice)
    # Details must not move the landmarks off their measured places.
    shape += _settled(plane, landmarks68, landmark_places() - shape[landmarks68])
    return _closed_mouth(lattice, shape)


def _relief(lattice: Lattice) -> FloatArray:
    x, y = lattice.x, lattice.y
    ax = np.abs(x)
    from_eye = ((ax - EYE_X) / 0.115) ** 2 + ((y - EYE_Y - 0.002) / 0.047) ** 2
    eyeballs = 0.020 * np.clip(1 - from_eye / 1.6, 0, None) ** 1.5
    across = np.sqrt(np.clip(1 - ((ax - EYE_X) / 0.14) ** 2, 0, None))
    lid_fold = -0.012 * bump(y - EYE_Y - 0.030 - 0.050 * across, 0.012) * across
    lip_line = -0.018 * bump(y - MOUTH_Y + 0.006, 0.016) * bump(x, 0.21)
    philtrum = -0.006 * bump(x, 0.022) * bump(y + 0.24, 0.05)
    return eyeballs + lid_fold + lip_line + philtrum


def _settled(plane: FloatArray, landmarks: IntArray, offsets: FloatArray) -> FloatArray:
    """(V,3) a short-ranged smooth field that is ``offsets`` (68,3) at the landmarks."""
    width = 0.05

    def near(points: FloatArray) -> FloatArray:
        return bump(np.linalg.norm(points[:, None] - plane[landmarks][None], axis=-1), width)

    weights = np.linalg.lstsq(near(plane[landmarks]), offsets, rcond=1e-6)[0]
    return near(plane) @ weights


def _closed_mouth(lattice: Lattice, shape: FloatArray) -> FloatArray:
    """Makes the two rows along the mouth's slit touch, and nearly touch at its two ends."""
    above, below, joined = lip_rows(lattice)
    middle = (shape[above] + shape[below]) / 2
    open_part = np.where(joined, CORNER_GAP, 0.0)[:, None]
    shape[above] = middle + open_part * (shape[above] - middle)
    shape[below] = middle + open_part * (shape[below] - middle)
    return shape
