"""Random fields, and the bump with which features are painted."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def bump(distance: Floats, width: float | Floats) -> Floats:
    """Gaussian bump exp(-(distance / width)^2)."""
    return np.exp(-np.square(distance / np.float32(width)))


def ramp(value: Floats) -> Floats:
    """0 below -0.5, 1 above 0.5, linear between: an edge one unit wide."""
    return np.clip(value + np.float32(0.5), 0, 1)


def fractal(
    random: np.random.Generator, size: int, octaves: Sequence[int], channels: int = 1
) -> Floats:
    """(size,size,channels) noise of several cell counts per side; coarse ones are the strongest."""
    total = np.zeros((size, size, channels), np.float32)
    decay = random.uniform(0.3, 1.0)
    for cells in octaves:
        grid = random.standard_normal((cells + 1, cells + 1, channels), dtype=np.float32)
        enlarged = cv2.resize(grid, (size, size), interpolation=cv2.INTER_LINEAR)
        total += enlarged.reshape(total.shape) * np.float32((octaves[0] / cells) ** decay)
    return total


def mix(base: Floats, colour: Floats, mask: Floats) -> Floats:
    """``base`` (...,3) covered by ``colour`` where ``mask`` (...) is 1."""
    return base + (colour - base) * mask[..., None]
