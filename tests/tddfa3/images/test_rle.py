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


def encode(mask: np.ndarray) -> Rle:
    [rle] = encode_label_map(mask.astype(np.uint8), 1)
    return rle


@pytest.mark.parametrize("name", FIXTURES)
def test_strings_are_pycocotools(name: str) -> None:
    mask, counts = FIXTURES[name]
    rle = encode(mask)
    assert rle == {"size": list(mask.shape), "counts": counts}
    np.testing.assert_array_equal(decode_rle(rle), mask)
    assert rle_area(rle) == mask.sum()
    assert json.loads(json.dumps(rle)) == rle


@settings(deadline=None)
@given(mask=masks)
def test_round_trip_and_area(mask: np.ndarray) -> None:
    rle = encode(mask)
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
    assert rles == [encode(labels == part + 1) for part in range(4)]


def test_labels_may_be_views() -> None:
    labels = FIXTURES["disc"][0].astype(np.uint8)
    expected = encode_label_map(labels, 1)
    assert encode_label_map(np.asfortranarray(labels), 1) == expected
    assert encode_label_map(np.repeat(labels, 2, axis=1)[:, ::2], 1) == expected


@pytest.mark.parametrize(
    "counts", ["", "<<", "1", "0<\x7f", "0\u00e9", "P", "oooooooo0", "0O"], ids=ascii
)
def test_malformed_counts_are_refused(counts: str) -> None:
    with pytest.raises(ValueError, match="RLE counts"):
        decode_rle(Rle(size=[4, 3], counts=counts))


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"labels must be \(H,W\)"):
        encode_label_map(np.zeros(3, np.uint8), 8)
