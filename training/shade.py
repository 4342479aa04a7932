"""Colours of a rasterized head, pixel by pixel, compiled by numba."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

TEXTURE, LIGHT, GLOSS, PLACE = slice(0, 2), slice(2, 5), 5, slice(6, 8)
"""Columns of the interpolated attributes; PLACE is x and y in the model frame."""
ATTRIBUTES = 8


@dataclass(frozen=True)
class Eyes:
    """Both eyeballs of one picture, in the model frame's x and y.

    Attributes:
        centres: (2,2) centres of the irises: image-left eye, then image-right.
        iris_radius: in model units.
        pupil_radius: in model units.
        white: (3,) RGB.
        iris: (3,) RGB.
        highlight: (4,) x and y from the iris's centre, radius, brightness.
    """

    centres: Floats
    iris_radius: float
    pupil_radius: float
    white: Floats
    iris: Floats
    highlight: Floats


def random_eyes(random: np.random.Generator, landmarks: npt.NDArray[np.floating]) -> Eyes:
    """Random eyes for a face with ``landmarks`` (68,3) in the model frame."""
    corners = landmarks[[[36, 39], [42, 45]], :2]
    gaze = random.normal(0, (0.022, 0.008))
    width = float(np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1).mean())
    iris_radius = width * random.uniform(0.19, 0.26)
    colours = [
        [0.25, 0.15, 0.08],
        [0.12, 0.07, 0.05],
        [0.35, 0.45, 0.55],
        [0.35, 0.40, 0.25],
        [0.45, 0.35, 0.20],
    ]
    return Eyes(
        (corners.mean(axis=1) + gaze + [0, 0.004]).astype(np.float32),
        iris_radius,
        iris_radius * random.uniform(0.3, 0.6),
        (np.array([0.84, 0.8, 0.78]) * random.uniform(0.7, 1.2)).astype(np.float32),
        (np.array(colours[random.integers(5)]) * random.uniform(0.5, 1.1)).astype(np.float32),
        np.array(
            [
                random.normal(0, 0.015),
                random.uniform(0, 0.02),
                0.012,
                random.uniform(0.3, 0.9) if random.random() < 0.6 else 0.0,
            ],
            np.float32,
        ),
    )


def shade(attributes: Floats, raster: Floats, atlas: Floats, eyes: Eyes) -> Floats:
    """(H,W,4) RGB, and 1 in the pixels that the head covers.

    Args:
        attributes: (H,W,8) interpolated, see the columns above.
        raster: (H,W,4) of the rasterizer.
        atlas: (A,S,4) RGB and share of eyeball.
        eyes: are painted where there is eyeball.
    """
    return _shade(
        attributes,
        raster[..., 3],
        atlas,
        eyes.centres,
        np.float32(eyes.iris_radius),  # type: ignore[arg-type]
        np.float32(eyes.pupil_radius),  # type: ignore[arg-type]
        eyes.white,
        eyes.iris,
        eyes.highlight,
    )


@numba.njit(nogil=True, cache=True)
def _shade(
    attributes: Floats,
    triangle: Floats,
    atlas: Floats,
    centres: Floats,
    iris_radius: float,
    pupil_radius: float,
    white: Floats,
    iris: Floats,
    highlight: Floats,
) -> Floats:  # pragma: no cover (compiled)
    height, width = triangle.shape
    out = np.zeros((height, width, 4), np.float32)
    texel = np.zeros(4, np.float32)
    for row in range(height):
        for column in range(width):
            if triangle[row, column] == 0:
                continue
            a = attributes[row, column]
            x = min(max(a[0], 0.0), atlas.shape[1] - 1.001)
            y = min(max(a[1], 0.0), atlas.shape[0] - 1.001)
            c, r = int(x), int(y)
            fx, fy = x - c, y - r
            for k in range(4):
                above = atlas[r, c, k] * (1 - fx) + atlas[r, c + 1, k] * fx
                below = atlas[r + 1, c, k] * (1 - fx) + atlas[r + 1, c + 1, k] * fx
                texel[k] = above * (1 - fy) + below * fy
            eyeball = texel[3]
            if eyeball > 0:
                centre = centres[0] if a[6] < 0 else centres[1]
                dx, dy = a[6] - centre[0], a[7] - centre[1]
                radius = math.sqrt(dx * dx + dy * dy)
                in_iris = min(max((iris_radius - radius) / 0.008 + 0.5, 0.0), 1.0)
                in_pupil = min(max((pupil_radius - radius) / 0.008 + 0.5, 0.0), 1.0)
                hx, hy = dx - highlight[0], dy - highlight[1]
                spot = math.exp(-(hx * hx + hy * hy) / highlight[2] ** 2) * highlight[3]
                for k in range(3):
                    colour = white[k] * (1 - in_iris) + iris[k] * in_iris
                    colour = (colour * (1 - in_pupil) + 0.03 * in_pupil) * texel[k] + spot
                    texel[k] = colour * eyeball + texel[k] * (1 - eyeball)
            for k in range(3):
                out[row, column, k] = texel[k] * a[2 + k] + a[5]
            out[row, column, 3] = 1.0
    return out
