"""A photograph of which fewer pixels were decoded than it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Float = TypeVar("Float", np.float32, np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class ReducedPhoto:
    """Averages of ``factor`` by ``factor`` pixels, as JPEG decoders give them cheaply.

    Pixel i of it lies at ``(i + 0.5) factor - 0.5`` of the photograph (:func:`scale_pixels`).

    Args:
        pixels: (h, w, 3) uint8 RGB.
        factor: a power of two; the photograph has exactly ``w factor`` times ``h factor`` pixels.
        full: gives all of them, (h factor, w factor, 3), for a face that needs them.
    """

    pixels: NDArray[np.uint8]
    factor: int
    full: Callable[[], NDArray[np.uint8]]


Photo: TypeAlias = NDArray[np.uint8] | ReducedPhoto
"""(H, W, 3) uint8 RGB, upright, or fewer pixels of it."""


def pixels_of(photo: Photo) -> NDArray[np.uint8]:
    """What was decoded of it."""
    return photo.pixels if isinstance(photo, ReducedPhoto) else photo


def factor_of(photo: Photo) -> int:
    """How many times smaller that is."""
    return photo.factor if isinstance(photo, ReducedPhoto) else 1


def size_of(photo: Photo) -> tuple[int, int]:
    """(width, height) of the photograph itself."""
    height, width = pixels_of(photo).shape[:2]
    return width * factor_of(photo), height * factor_of(photo)


def all_of(photo: Photo) -> NDArray[np.uint8]:
    """All its pixels; raises whatever ``full`` does."""
    return photo.full() if isinstance(photo, ReducedPhoto) else photo


def scale_pixels(points: NDArray[Float], factor: float) -> NDArray[Float]:
    """Where points lie once their picture is scaled.

    A whole number is the centre of a pixel, so a picture begins at -0.5, and that edge stays.

    Args:
        points: float32 or float64, any shape, pixels.
        factor: size of the scaled picture, of the given one.

    Returns:
        pixels of the scaled picture, of the same type.
    """
    half = points.dtype.type(0.5)
    return (points + half) * points.dtype.type(factor) - half
