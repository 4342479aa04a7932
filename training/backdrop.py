"""Backgrounds: procedural scenes with the statistics of photographs, out of focus."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from training.noise import fractal

Floats = npt.NDArray[np.floating]


def backdrop(random: np.random.Generator, size: int) -> Floats:
    """A random background, (size,size,3) RGB 0..1."""
    kind = random.random()
    if kind < 0.55:
        picture = dead_leaves(random, size)
    elif kind < 0.8:
        picture = _plain(random, size)
    else:
        noise = fractal(random, size, (2, 4, 8, 32), 3) * np.float32(random.uniform(0.03, 0.25))
        picture = np.float32(random.uniform(0.1, 0.9)) + noise
    if kind < 0.8 and random.random() < 0.6:
        picture = cv2.GaussianBlur(picture, (0, 0), random.uniform(0.5, 9))
    if random.random() < 0.75:
        picture = mixed_grey(picture, np.float32(random.uniform(0.3, 1)))
    return np.ascontiguousarray(np.clip(picture, 0, 1), np.float32)


def dead_leaves(random: np.random.Generator, size: int) -> Floats:
    """Shapes of all sizes in front of each other, with edges and contrasts as in photographs."""
    base = random.uniform(0, 1, 3) * random.uniform(0.3, 1)
    spread = random.uniform(0.05, 0.35)
    picture = np.full((size, size, 3), base, np.float32)
    for _ in range(int(random.integers(15, 70))):
        # Areas follow a power law.
        radius = float(np.clip(size * 0.03 / random.uniform(0.03, 1), 2, size * 0.6))
        centre = random.uniform(-0.1, 1.1, 2) * size
        colour = np.clip(base + random.normal(0, spread, 3), 0, 1).tolist()
        if random.random() < 0.5:
            axes = (radius * 2, radius * 2 * float(random.uniform(0.3, 1)))
            box = (tuple(centre.tolist()), axes, float(random.uniform(0, 180)))
            cv2.ellipse(picture, box, colour, -1, cv2.LINE_AA)
        else:
            corners = centre + random.normal(size=(int(random.integers(3, 6)), 2)) * radius
            cv2.fillConvexPoly(picture, cv2.convexHull(corners.astype(np.int32)), colour)
    return picture * (1 + fractal(random, size, (16, 64)) * np.float32(random.uniform(0, 0.1)))


def mixed_grey(picture: Floats, share: np.float32) -> Floats:
    """The picture with ``share`` of its saturation removed."""
    return picture + (picture.mean(axis=2, keepdims=True) - picture) * share


def _plain(random: np.random.Generator, size: int) -> Floats:
    """A wall or a studio: one colour, brighter towards one side."""
    colour = random.uniform(0, 1, 3) ** random.uniform(0.4, 2)
    if random.random() < 0.3:
        colour = np.full(3, random.choice([0.02, 0.97, random.random()]))
    along = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    slopes = random.normal(0, 0.3, (2, 3)).astype(np.float32)
    picture = colour.astype(np.float32) + along[:, None, None] * slopes[0]
    return picture + along[None, :, None] * slopes[1]
