"""Names and places of the coefficients."""

from __future__ import annotations

import pytest
import torch

from tddfa3.coefficients import Coefficients, CoefficientSizes, join, split

PUBLISHED = CoefficientSizes(id=80, exp=64, alb=80)
SIZES = [PUBLISHED, CoefficientSizes(id=40, exp=40, alb=20), CoefficientSizes(id=1, exp=2, alb=3)]


def test_published_layout() -> None:
    """The layout of the published networks, written out once."""
    assert PUBLISHED.total == 257
    assert {name: (s.start, s.stop) for name, s in PUBLISHED.slices().items()} == {
        "id": (0, 80),
        "exp": (80, 144),
        "alb": (144, 224),
        "angle": (224, 227),
        "sh": (227, 254),
        "trans": (254, 257),
    }


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_join_undoes_split(sizes: CoefficientSizes, rows: int) -> None:
    alpha = torch.randn(rows, sizes.total)
    parts = split(alpha, sizes)
    assert {name: part.shape for name, part in parts._asdict().items()} == {
        name: (rows, size) for name, size in sizes.as_dict().items()
    }
    assert torch.equal(join(parts), alpha)


@pytest.mark.parametrize("shape", [(257,), (2, 256), (2, 257, 1)])
def test_split_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(B, 257\)") as error:
        split(torch.zeros(shape), PUBLISHED)
    assert str(tuple(shape)) in str(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_split_refuses_values_that_are_not_finite(value: float) -> None:
    alpha = torch.zeros(4, 257)
    alpha[2, 200] = value
    with pytest.raises(ValueError, match=r"not finite in rows \[2\]"):
        split(alpha, PUBLISHED)


def test_join_refuses_different_batches() -> None:
    parts = split(torch.zeros(2, 257), PUBLISHED)
    with pytest.raises(ValueError, match=r"'sh': \(1, 27\)"):
        join(parts._replace(sh=torch.zeros(1, 27)))
    with pytest.raises(ValueError, match="one B"):
        join(Coefficients(*(part[0] for part in parts)))


def test_sizes_must_be_positive() -> None:
    with pytest.raises(ValueError, match="exp is 0"):
        CoefficientSizes(id=80, exp=0, alb=80)
