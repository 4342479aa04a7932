"""Random light: an ambient part and one or two directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tddfa3.geometry.face_model import SH_AMBIENT

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Light:
    """Light as spherical harmonics, and how it was made.

    Attributes:
        sh: (27,), the coefficients.
        tint: (3,) colour of the whole light.
        highlight: (3,) unit normal of the surface that shines most.
        gloss: strength of the highlight.
    """

    sh: npt.NDArray[np.float32]
    tint: Floats
    highlight: Floats
    gloss: float

    def scaled(self, factor: float) -> Light:
        """The same light under another exposure."""
        bands = self.sh.reshape(3, 9).copy()
        bands[:, 0] += SH_AMBIENT
        bands *= np.float32(factor)
        bands[:, 0] -= SH_AMBIENT
        return Light(bands.reshape(27), self.tint, self.highlight, self.gloss * factor)


def random_light(random: np.random.Generator) -> Light:
    """An ambient part and one or two directions, of random strengths and tints."""
    bands = np.zeros((3, 9))
    bands[:, 0] = SH_AMBIENT + random.normal(0, 0.1)
    for _ in range(random.integers(1, 3)):
        x, y, z = _towards_light(random)
        strength = abs(random.normal()) * 0.25 + 0.05
        tint = 1 + random.normal(0, 0.08, 3)
        # The harmonics of a light from (x, y, z), the quadratic ones softened.
        linear = [-y, z, -x]
        quadratic = [x * y, -y * z, 0.29 * (3 * z * z - 1), -x * z, 0.5 * (x * x - y * y)]
        bands += tint[:, None] * strength * np.array([0, *linear, *(0.6 * np.array(quadratic))])
    tint = 1 + random.normal(0, 0.06, 3)
    bands *= tint[:, None]
    bands[:, 0] -= SH_AMBIENT
    half = random.normal(size=3)
    half[2] = abs(half[2]) + 0.7
    gloss = abs(random.normal()) * 0.1 if random.random() < 0.6 else 0.0
    return Light(
        bands.reshape(27).astype(np.float32), tint, half / np.linalg.norm(half), float(gloss)
    )


def _towards_light(random: np.random.Generator) -> Floats:
    direction = random.normal(size=3) * (1, 0.8, 0.6)
    direction[2] = abs(direction[2]) * (1 if random.random() < 0.9 else -1)
    return direction / np.linalg.norm(direction)
