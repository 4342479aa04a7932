"""The window against Pillow, which resizes the whole picture, axis by axis: equal, exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tddfa3.images.resample import axis_weights, resize_window


def whole_then_cut(
    image: np.ndarray, width: int, height: int, left: int, top: int, size: int
) -> np.ndarray:
    bicubic = Image.Resampling.BICUBIC
    wide = Image.fromarray(image).resize((width, image.shape[0]), bicubic)
    resized = wide.resize((width, height), bicubic)
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def window(
    image: np.ndarray, width: int, height: int, left: int, top: int, size: int
) -> np.ndarray:
    out = np.zeros((size, size, 3), np.uint8)
    columns = axis_weights(image.shape[1], width, left, size)
    rows = axis_weights(image.shape[0], height, top, size)
    if columns is not None and rows is not None:
        part = resize_window(image, columns, rows)
        below, right = rows.start + part.shape[0], columns.start + part.shape[1]
        out[rows.start : below, columns.start : right] = part
    return out


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 200),
    st.integers(1, 200),
    st.floats(0.08, 12),
    st.floats(-1.2, 1.2),
    st.floats(-1.2, 1.2),
    st.integers(0, 2**32 - 1),
)
def test_equals_pillow(
    height: int, width: int, scale: float, x: float, y: float, seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    new_width, new_height = max(int(width * scale), 1), max(int(height * scale), 1)
    where = (new_width, new_height, int(x * new_width), int(y * new_height), 48)
    np.testing.assert_array_equal(window(image, *where), whole_then_cut(image, *where))


def test_a_window_of_another_array_layout() -> None:
    flipped = np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)[::-1, ::-1]
    where = (41, 53, 3, 5, 32)
    expected = whole_then_cut(np.ascontiguousarray(flipped), *where)
    np.testing.assert_array_equal(window(flipped, *where), expected)


@pytest.mark.parametrize("offset", [-48, 100])
def test_beside_the_photograph(offset: int) -> None:
    assert axis_weights(200, 100, offset, 48) is None


def test_only_what_the_window_needs_is_read() -> None:
    columns = axis_weights(10_000, 5_000, 2_000, 100)
    assert columns is not None
    first, last = columns.reads
    assert 3_990 <= first < last <= 4_210
