"""Carrying per-vertex data from one topology to another and back."""

from __future__ import annotations

import numpy as np
import pytest

from tddfa3.assets.bundle import AssetBundle
from tddfa3.assets.topology import Correspondence, load_correspondences


@pytest.fixture
def correspondence() -> Correspondence:
    return Correspondence(5, 3, np.array([4, 0, 2], np.int32))


def test_apply_picks_the_partner_of_each_vertex(correspondence: Correspondence) -> None:
    data = np.arange(10).reshape(5, 2)
    np.testing.assert_array_equal(correspondence.apply(data), [[8, 9], [0, 1], [4, 5]])


def test_inverse_brings_it_back_and_fills_the_rest(correspondence: Correspondence) -> None:
    data = np.arange(5.0)
    back = correspondence.apply_inverse(correspondence.apply(data))
    np.testing.assert_array_equal(back, [0, np.nan, 2, np.nan, 4])
    labels = correspondence.apply_inverse(np.array([1, 2, 3]), fill=-1)
    np.testing.assert_array_equal(labels, [2, -1, 3, -1, 1])


def test_wrong_numbers_of_vertices(correspondence: Correspondence) -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 3\), not \(5, ...\)"):
        correspondence.apply(np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"shape \(5,\), not \(3, ...\)"):
        correspondence.apply_inverse(np.zeros(5))
    with pytest.raises(ValueError, match="has no NaN"):
        correspondence.apply_inverse(np.zeros(3, np.int64))


def test_a_bundle_without_correspondences(face_bundle: AssetBundle) -> None:
    assert load_correspondences(face_bundle) == {}
