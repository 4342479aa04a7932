"""Numbers that are the same on every machine: named random generators and decimal rounding."""

from __future__ import annotations

import zlib
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]


class NamedRandom:
    """Independent generators by name, so that adding an array never changes the others."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, name: str) -> np.random.Generator:
        """A new generator for the array ``name``."""
        entropy = [self.seed, zlib.crc32(name.encode())]
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def round_significant(values: npt.ArrayLike, digits: int = 4) -> FloatArray:
    """Round to ``digits`` significant decimal digits.

    Sums over pictures differ in their last bits between processors; rounding keeps that difference
    out of the files.
    """
    array = np.asarray(values, dtype=np.float64)
    magnitude = np.where(array == 0, 1.0, np.abs(array))
    power = 10.0 ** (digits - 1 - np.floor(np.log10(magnitude)))
    return np.round(array * power) / power


def bump(distance: npt.ArrayLike, width: npt.ArrayLike) -> FloatArray:
    """Gaussian bump exp(-(distance / width)^2)."""
    return np.exp(-((np.asarray(distance) / width) ** 2))
