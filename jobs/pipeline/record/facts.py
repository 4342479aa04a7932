"""What of a run's assets its manifest and its columns hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tddfa3.coefficients import CoefficientSizes

# Of 3DDFA-V3's assets.
_COEFFICIENTS = CoefficientSizes(id=80, exp=64, alb=80).as_dict()
_LANDMARKS = {"68": 68, "106": 106, "106_2d": 106, "134": 134}


@dataclass(frozen=True)
class AssetFacts:
    """The bundle that a run labels with; sizes default to those of 3DDFA-V3's assets.

    Attributes:
        files: name of a file to what the bundle says of it.
        coefficients: name to size, in the order of a row of coefficients.
        landmarks: name of a landmark set to its number of points, in the order of the columns.
        part_names: label i + 1 of ``seg_visible``, bit i of ``seg``.
        chosen: options of the config that were left to the assets (auto), and what these choose.
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
        """Completes the sizes and puts them in their order: a manifest keeps names sorted, and a
        bundle says nothing of ``106_2d``, which has the points of the fixed set it starts from."""
        landmarks = {"106_2d": self.landmarks.get("106", _LANDMARKS["106"]), **self.landmarks}
        object.__setattr__(
            self, "landmarks", {n: landmarks.get(n, k) for n, k in _LANDMARKS.items()}
        )
        sizes = {name: self.coefficients.get(name, k) for name, k in _COEFFICIENTS.items()}
        object.__setattr__(self, "coefficients", sizes)
