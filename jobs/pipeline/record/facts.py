"""What the manifest and the columns of a run need to know about its assets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tddfa3.coefficients import CoefficientSizes
from tddfa3.conventions import LANDMARK_COUNTS, LANDMARK_SETS

# The sizes of 3DDFA-V3's assets.
_COEFFICIENTS = CoefficientSizes(id=80, exp=64, alb=80).as_dict()
# 106_2d slides along the contour of 106.
_LANDMARKS = {name: LANDMARK_COUNTS[name.removesuffix("_2d")] for name in LANDMARK_SETS}


@dataclass(frozen=True)
class AssetFacts:
    """The bundle that a run labels with; sizes default to those of 3DDFA-V3's assets.

    Attributes:
        name: the bundle's name.
        digest: hash over the bundle's files; part of the run's fingerprint.
        source: where the assets come from.
        licence: under which they may be used.
        files: file name to what the bundle says about the file.
        coefficients: name to size, in the order of a row of coefficients.
        landmarks: name of a landmark set to its number of points, in the order of the columns.
        part_names: names of the face parts; part i is label i + 1 of ``seg_visible`` and bit i of
            ``seg``.
        chosen: options that were left to the assets ("auto"), with what the assets chose.
    """

    name: str
    digest: str
    source: str = ""
    licence: str = ""
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    coefficients: Mapping[str, int] = field(default_factory=lambda: dict(_COEFFICIENTS))
    landmarks: Mapping[str, int] = field(default_factory=lambda: dict(_LANDMARKS))
    part_names: tuple[str, ...] = ()
    chosen: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Complete the sizes and put them in the order of the columns.

        A manifest keeps names sorted, and a bundle does not list ``106_2d``, which has as many
        points as the fixed set that it starts from.
        """
        landmarks = {"106_2d": self.landmarks.get("106", _LANDMARKS["106"]), **self.landmarks}
        object.__setattr__(
            self, "landmarks", {n: landmarks.get(n, k) for n, k in _LANDMARKS.items()}
        )
        sizes = {name: self.coefficients.get(name, k) for name, k in _COEFFICIENTS.items()}
        object.__setattr__(self, "coefficients", sizes)
