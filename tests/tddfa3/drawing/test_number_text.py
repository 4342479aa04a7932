"""Numbers of any size read back exactly."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tddfa3.drawing.number_text import number_lines


def read(text: bytes) -> np.ndarray:
    return np.array([line.split()[1:] for line in text.decode().splitlines()], np.float32)


def assert_exact(values: np.ndarray) -> None:
    found = read(number_lines(b"v", values))
    np.testing.assert_array_equal(found, values)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(values))


def test_lines() -> None:
    values = np.array([[0.5, -12.25, 0], [1234.0, 1.2345678e-5, -2.5e7]], np.float32)
    assert number_lines(b"vt", values).decode().splitlines() == [
        "vt 0.500000000 -12.250000000 0.000000000",
        "vt 1234.000000000 1.23456784e-05 -2.50000000e+07",
    ]
    assert number_lines(b"v", values[:0]) == b""


def test_all_magnitudes() -> None:
    random = np.random.default_rng(0)
    spread = 10.0 ** random.uniform(-45, 38.5, (4000, 3)) * random.choice([-1, 1], (4000, 3))
    assert_exact(spread.astype(np.float32))
    assert_exact(random.normal(0, 1, (4000, 3)).astype(np.float32))
    powers = np.float32(10.0) ** np.arange(-44, 39, dtype=np.float32)[:, None]
    assert_exact(powers)
    assert_exact(np.nextafter(powers, np.float32(0)))


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_any_number(value: float) -> None:
    assert_exact(np.array([[value]], np.float32))
