"""MTCNN's box arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tddfa3.networks.detection import boxes as box_arithmetic
from tddfa3.networks.detection.boxes import overlap, shift, suppress, suppress_greedily, to_squares

Array = NDArray[np.float64]


def random_boxes(n: int, seed: int) -> tuple[Array, Array]:
    generator = np.random.default_rng(seed)
    corner = generator.uniform(0, 60, (n, 2))
    boxes = np.concatenate([corner, corner + generator.uniform(1, 40, (n, 2))], axis=1)
    return boxes, generator.permutation(n) / max(n, 1)


def overlap_of_two(a: Array, b: Array, relative_to: str) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    shared = width * height
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return shared / (sum(areas) - shared if relative_to == "union" else min(areas))


@given(
    n=st.integers(0, 30), seed=st.integers(0, 1000), relative_to=st.sampled_from(["union", "min"])
)
@settings(max_examples=50, deadline=None)
def test_box_survives_unless_a_better_one_overlaps_it(n: int, seed: int, relative_to: str) -> None:
    boxes, scores = random_boxes(n, seed)
    expected = [
        i
        for i in np.argsort(-scores)
        if not any(
            scores[j] > scores[i] and overlap_of_two(boxes[i], boxes[j], relative_to) > 0.3
            for j in range(n)
        )
    ]
    kept = suppress(boxes, scores, 0.3, relative_to=relative_to)
    np.testing.assert_array_equal(kept, np.array(expected, dtype=int))


def test_suppression_in_blocks_equals_that_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes, scores = random_boxes(200, seed=3)
    at_once = suppress(boxes, scores, 0.4)
    monkeypatch.setattr(box_arithmetic, "_BLOCK", 1500)
    np.testing.assert_array_equal(suppress(boxes, scores, 0.4), at_once)
    assert 0 < len(at_once) < 200


def test_dropped_box_still_drops_others() -> None:
    chain = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]], dtype=float)
    # The middle one overlaps both neighbours; the outer ones hardly each other.
    np.testing.assert_array_equal(suppress(chain, np.array([0.9, 0.8, 0.7]), 0.3), [0])


def test_boxes_without_area_neither_drop_nor_are_dropped() -> None:
    point = np.array([[5, 5, 5, 5], [5, 5, 5, 5], [0, 0, 10, 10]], dtype=float)
    assert len(suppress(point, np.array([0.9, 0.8, 0.7]), 0.5)) == 3
    assert np.isnan(overlap(point[:1], point[:1], "union")).all()


@given(n=st.integers(0, 30), seed=st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_greedily_a_box_survives_unless_a_kept_one_overlaps_it(n: int, seed: int) -> None:
    boxes, scores = random_boxes(n, seed)
    # Rounded as the boxes that are given to it.
    boxes = boxes[np.argsort(-scores)].astype(np.float32).astype(np.float64)
    expected: list[int] = []
    for i in range(n):
        if not any(overlap_of_two(boxes[i], boxes[j], "union") > 0.3 for j in expected):
            expected.append(i)
    kept = suppress_greedily(boxes.astype(np.float32), 0.3)
    np.testing.assert_array_equal(kept, np.array(expected, dtype=int))


def test_greedily_a_dropped_box_drops_none() -> None:
    chain = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]], dtype=np.float32)
    np.testing.assert_array_equal(suppress_greedily(chain, 0.3), [0, 2])
    without_area = np.array([[5, 5, 5, 5]] * 2, dtype=np.float32)
    np.testing.assert_array_equal(suppress_greedily(without_area, 0.3), [0, 1])


def test_squares_keep_centre_and_longer_side() -> None:
    squares = to_squares(np.array([[0, 0, 10, 4], [5, 5, 6, 25]], dtype=float))
    np.testing.assert_allclose(squares, [[0.0, -3.0, 10.0, 7.0], [-4.5, 5.0, 15.5, 25.0]])
    assert to_squares(np.zeros((0, 4))).shape == (0, 4)


def test_shift_is_in_units_of_the_size_in_whole_pixels() -> None:
    moved = shift(np.array([[0, 0, 9, 19]], dtype=float), np.array([[0.1, 0.1, -0.1, 0.2]]))
    np.testing.assert_allclose(moved, [[1, 2, 8, 23]])
