"""Photographs that may have been decoded at a reduced size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Float = TypeVar("Float", np.float32, np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class ReducedPhoto:
    """A photograph decoded at 1/factor of its size, which is cheap for JPEG.

    Each pixel is the mean of ``factor`` x ``factor`` pixels of the photograph; pixel i lies at
    ``(i + 0.5) factor - 0.5`` there (:func:`scale_pixels`).

    Attributes:
        pixels: uint8 (h, w, 3) RGB.
        factor: a power of two; the photograph has exactly ``w factor`` x ``h factor`` pixels.
        full: decodes the whole photograph, (h factor, w factor, 3), for a face that needs it.
    """

    pixels: NDArray[np.uint8]
    factor: int
    full: Callable[[], NDArray[np.uint8]]


Photo: TypeAlias = NDArray[np.uint8] | ReducedPhoto
"""A photograph, uint8 (H, W, 3) RGB, upright; or one decoded at a reduced size."""


def pixels_of(photo: Photo) -> NDArray[np.uint8]:
    """The decoded pixels, uint8 (h, w, 3) RGB, maybe of a reduced size."""
    return photo.pixels if isinstance(photo, ReducedPhoto) else photo


def factor_of(photo: Photo) -> int:
    """How many times smaller the decoded picture is than the photograph; 1 for a full one."""
    return photo.factor if isinstance(photo, ReducedPhoto) else 1


def size_of(photo: Photo) -> tuple[int, int]:
    """Width and height of the photograph at its full size, in pixels."""
    height, width = pixels_of(photo).shape[:2]
    return width * factor_of(photo), height * factor_of(photo)


def all_of(photo: Photo) -> NDArray[np.uint8]:
    """The photograph at its full size, uint8 (H, W, 3) RGB; raises what ``full`` raises."""
    return photo.full() if isinstance(photo, ReducedPhoto) else photo


def scale_pixels(points: NDArray[Float], factor: float) -> NDArray[Float]:
    """Converts pixel coordinates to those of a scaled picture.

    Whole numbers are pixel centres, so a picture's edge is at -0.5 before and after scaling.

    Args:
        points: float32 or float64, any shape, in pixels.
        factor: size of the scaled picture relative to the given one.

    Returns:
        pixels of the scaled picture, of the same shape and dtype.
    """
    half = points.dtype.type(0.5)
    return (points + half) * points.dtype.type(factor) - half
