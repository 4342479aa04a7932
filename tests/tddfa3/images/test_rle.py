"""COCO run-length encoding; the strings below were made by pycocotools 2.0."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tddfa3.images.rle import (
    Rle,
    compress,
    decode_rle,
    decompress,
    encode_label_map,
    encode_rle,
    rle_area,
)

Y, X = np.mgrid[:9, :11]
FIXTURES = {
    "nothing": (np.zeros((4, 3), bool), "<"),
    "everything": (np.ones((4, 3), bool), "0<"),
    "first pixel": (np.arange(12).reshape(4, 3) == 0, "01;"),
    "checkerboard": (np.add.outer(np.arange(4), np.arange(5)) % 2 == 1, "11110O10O10O10O0"),
    "disc": ((X - 5) ** 2 + (Y - 4) ** 2 <= 12, "e0352N2O0001N2N`0"),
    "rectangle": (
        np.pad(np.ones((100, 50), bool), ((150, 50), (60, 90))),
        "Vga0T3X6" + "0" * 97 + "RWj0",
    ),
    "no pixels": (np.zeros((0, 5), bool), "0"),
}
masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=30))


@pytest.mark.parametrize("name", FIXTURES)
def test_strings_are_pycocotools(name: str) -> None:
    mask, counts = FIXTURES[name]
    rle = encode_rle(mask)
    assert rle == {"size": list(mask.shape), "counts": counts}
    np.testing.assert_array_equal(decode_rle(rle), mask)
    assert rle_area(rle) == mask.sum()
    assert json.loads(json.dumps(rle)) == rle


@settings(deadline=None)
@given(mask=masks)
def test_round_trip_and_area(mask: np.ndarray) -> None:
    rle = encode_rle(mask)
    np.testing.assert_array_equal(decode_rle(rle), mask)
    assert rle_area(rle) == mask.sum()


@settings(deadline=None)
@given(runs=st.lists(st.integers(0, 2**32), max_size=40))
def test_any_run_lengths_survive(runs: list[int]) -> None:
    assert decompress(compress(np.array(runs, np.int64))).tolist() == runs


@settings(deadline=None)
@given(labels=hnp.arrays(np.uint8, (7, 9), elements=st.integers(0, 5)))
def test_label_map_gives_the_mask_of_every_part(labels: np.ndarray) -> None:
    rles = encode_label_map(labels, 4)
    assert rles == [encode_rle(labels == part + 1) for part in range(4)]


def test_masks_may_be_integers_or_views() -> None:
    mask = FIXTURES["disc"][0]
    assert encode_rle(mask.astype(np.uint8) * 255) == encode_rle(mask)
    assert encode_rle(np.asfortranarray(mask)) == encode_rle(mask)
    assert encode_rle(np.repeat(mask, 2, axis=1)[:, ::2]) == encode_rle(mask)


@pytest.mark.parametrize(
    "counts", ["", "<<", "1", "0<\x7f", "0\u00e9", "P", "oooooooo0", "0O"], ids=ascii
)
def test_malformed_counts_are_refused(counts: str) -> None:
    with pytest.raises(ValueError, match="RLE counts"):
        decode_rle(Rle(size=[4, 3], counts=counts))


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"mask must be \(H,W\)"):
        encode_rle(np.zeros((1, 2, 3), bool))
    with pytest.raises(ValueError, match=r"labels must be \(H,W\)"):
        encode_label_map(np.zeros(3, np.uint8), 8)
