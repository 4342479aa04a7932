"""The numbers a backbone predicts for a face, and their names.

A row is ``id | exp | alb | angle | sh | trans``. With 3DDFA-V3's assets that is
80 + 64 + 80 + 3 + 27 + 3 = 257 numbers; every bundle states its own sizes of the first three.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:
    # A job's driver needs the sizes but no tensors, and so does not import PyTorch.
    from torch import Tensor


@dataclass(frozen=True)
class CoefficientSizes:
    """How many coefficients of each kind there are.

    Attributes:
        id: identity: weights of the identity basis, in standard deviations.
        exp: expression.
        alb: albedo.
        angle: pitch, yaw, roll in radians (signs: :func:`tddfa3.geometry.camera.euler_degrees`).
        sh: spherical harmonics lighting: nine coefficients of red, nine of green, nine of blue.
        trans: translation in model units, added after the rotation.

    Raises:
        ValueError: If a size is below 1.
    """

    id: int
    exp: int
    alb: int
    angle: ClassVar[int] = 3
    sh: ClassVar[int] = 27
    trans: ClassVar[int] = 3

    def __post_init__(self) -> None:
        for name in ("id", "exp", "alb"):
            if getattr(self, name) < 1:
                raise ValueError(f"coefficients: {name} is {getattr(self, name)}, it must be >= 1")

    def as_dict(self) -> dict[str, int]:
        """Name to size, in the order of a row."""
        return {name: getattr(self, name) for name in Coefficients._fields}

    @property
    def total(self) -> int:
        """Length of a row."""
        return sum(self.as_dict().values())

    def slices(self) -> dict[str, slice]:
        """Name to its slice of a row, in the order of a row."""
        places, start = {}, 0
        for name, size in self.as_dict().items():
            places[name] = slice(start, start + size)
            start += size
        return places


class Coefficients(NamedTuple):
    """A batch of coefficients by name, each float (B, k); see :class:`CoefficientSizes`."""

    id: Tensor
    exp: Tensor
    alb: Tensor
    angle: Tensor
    sh: Tensor
    trans: Tensor


def split(alpha: Tensor, sizes: CoefficientSizes) -> Coefficients:
    """Splits a backbone's output into named coefficients.

    Args:
        alpha: float (B, ``sizes.total``); B may be 0.
        sizes: of the bundle.

    Returns:
        views of ``alpha``, each (B, k).

    Raises:
        ValueError: If the width differs, or a value is not finite.
    """
    if alpha.ndim != 2 or alpha.shape[1] != sizes.total:
        raise ValueError(
            f"alpha must have shape (B, {sizes.total}) for {sizes.as_dict()}, "
            f"not {tuple(alpha.shape)}"
        )
    if not alpha.isfinite().all():
        bad = (~alpha.isfinite()).any(dim=1).nonzero().flatten().tolist()
        raise ValueError(f"alpha {tuple(alpha.shape)} has values that are not finite in rows {bad}")
    return Coefficients(*(alpha[:, place] for place in sizes.slices().values()))


def join(coefficients: Coefficients) -> Tensor:
    """The inverse of :func:`split`.

    Args:
        coefficients: each (B, k).

    Returns:
        (B, total).

    Raises:
        ValueError: If the parts are not all (B, k) with the same B.
    """
    import torch

    shapes = {name: tuple(part.shape) for name, part in coefficients._asdict().items()}
    if (
        any(len(shape) != 2 for shape in shapes.values())
        or len({s[0] for s in shapes.values()}) > 1
    ):
        raise ValueError(f"coefficients must all have shape (B, k) with one B, not {shapes}")
    return torch.cat(list(coefficients), dim=1)
