"""Crops are compared with what upstream does in full: resize the whole photo, then cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tddfa3.conventions import CROP_SIZE
from tddfa3.geometry.crop import CropTransform, crop_image, estimate_crop
from tests.support.golden import golden_crop

STANDARD_POINTS = np.array(
    [
        (-0.31148657, 0.29036078, 0.13377953),
        (0.30979887, 0.28972036, 0.13179526),
        (0.0032535, -0.04617932, 0.55244243),
        (-0.25216928, -0.38133916, 0.22405732),
        (0.2484662, -0.38128236, 0.22235769),
    ]
)


@st.composite
def transforms(draw: st.DrawFn) -> CropTransform:
    """Small odd photos, enlarged and shrunk, with faces inside, at the border and beyond it."""
    w0 = draw(st.integers(1, 400))
    h0 = draw(st.integers(1, 400))
    s = draw(st.floats(max(0.12, 1 / min(w0, h0) + 1e-6), 4.0))
    tx = draw(st.floats(-0.5 * w0, 1.5 * w0))
    ty = draw(st.floats(-0.5 * h0, 1.5 * h0))
    return CropTransform(w0, h0, s, tx, ty)


def photo(transform: CropTransform, seed: int = 0) -> NDArray[np.uint8]:
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (transform.h0 // 7 + 1, transform.w0 // 7 + 1, 3))
    smooth = np.repeat(np.repeat(coarse, 7, 0), 7, 1)[: transform.h0, : transform.w0]
    noise = generator.integers(-40, 41, smooth.shape)
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


def crop_of_whole_photo(image: NDArray[np.uint8], t: CropTransform) -> NDArray[np.uint8]:
    # Two calls keep the order of the axes, which Pillow 13 and newer choose by the sizes.
    widened = Image.fromarray(image).resize((t.width, t.h0), Image.Resampling.BICUBIC)
    resized = widened.resize((t.width, t.height), Image.Resampling.BICUBIC)
    box = (t.left, t.up, t.left + t.size, t.up + t.size)
    return np.asarray(resized.crop(box))


def labels_through_whole_photo(labels: NDArray[np.uint8], t: CropTransform) -> NDArray[np.uint8]:
    canvas = Image.new("L", (t.w0, t.h0)).resize((t.width, t.height), Image.Resampling.NEAREST)
    canvas.paste(Image.fromarray(labels), (t.left, t.up, t.left + t.size, t.up + t.size))
    return np.asarray(canvas.resize((t.w0, t.h0), Image.Resampling.NEAREST))


@given(transform=transforms(), seed=st.integers(0, 2**31))
@settings(max_examples=150, deadline=None)
def test_crop_equals_that_of_the_whole_resized_photo(transform: CropTransform, seed: int) -> None:
    image = photo(transform, seed)
    np.testing.assert_array_equal(
        crop_image(image, transform), crop_of_whole_photo(image, transform)
    )


@given(transform=transforms(), seed=st.integers(0, 2**31))
@settings(max_examples=150, deadline=None)
def test_labels_go_back_exactly_as_through_pillow(transform: CropTransform, seed: int) -> None:
    shape = (CROP_SIZE, CROP_SIZE)
    labels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    expected = labels_through_whole_photo(labels, transform)
    np.testing.assert_array_equal(transform.labels_to_image(labels), expected)


@given(transform=transforms())
@settings(max_examples=100, deadline=None)
def test_image_box_is_where_labels_land(transform: CropTransform) -> None:
    covered = transform.labels_to_image(np.ones((CROP_SIZE, CROP_SIZE), dtype=np.uint8))
    x0, y0, x1, y1 = transform.image_box()
    assert 0 <= x0 <= x1 <= transform.w0
    assert 0 <= y0 <= y1 <= transform.h0
    expected = np.zeros_like(covered)
    expected[y0:y1, x0:x1] = 1
    np.testing.assert_array_equal(covered, expected)


@given(
    transform=transforms(),
    points=st.lists(st.tuples(st.floats(-500, 500), st.floats(-500, 500)), max_size=6),
)
@settings(max_examples=100, deadline=None)
def test_points_round_trip(transform: CropTransform, points: list[tuple[float, float]]) -> None:
    array = np.array(points).reshape(-1, 2)
    np.testing.assert_allclose(transform.to_crop(transform.to_image(array)), array, atol=1e-8)
    np.testing.assert_allclose(transform.to_image(transform.to_crop(array)), array, atol=1e-8)


@given(transform=transforms())
@settings(max_examples=50, deadline=None)
def test_params_round_trip(transform: CropTransform) -> None:
    assert CropTransform.from_params(transform.params()) == transform
    assert transform.params().dtype == np.float64


def test_integers_are_truncated_towards_zero() -> None:
    transform = CropTransform(100, 100, 1.0, 20.75, 120.75)
    # 50 - 112 + (20.75 - 50) = -91.25 and 50 - 112 + (50 - 120.75) = -132.75: floor gives -92, -133
    assert (transform.left, transform.up) == (-91, -132)


def test_labels_with_channels_go_back_channel_by_channel() -> None:
    transform = CropTransform(301, 207, 0.9, 150.0, 90.0)
    labels = np.random.default_rng(1).integers(0, 2, (CROP_SIZE, CROP_SIZE, 8), dtype=np.uint8)
    whole = transform.labels_to_image(labels)
    assert whole.shape == (207, 301, 8)
    for channel in range(8):
        single = transform.labels_to_image(np.ascontiguousarray(labels[:, :, channel]))
        np.testing.assert_array_equal(whole[:, :, channel], single)


def test_identity_moves_nothing() -> None:
    transform = CropTransform.identity()
    image = photo(transform)
    np.testing.assert_array_equal(crop_image(image, transform), image)
    np.testing.assert_array_equal(transform.labels_to_image(image[:, :, 0]), image[:, :, 0])
    np.testing.assert_array_equal(transform.to_image([[3.5, 7.25]]), [[3.5, 7.25]])
    assert transform.image_box() == (0, 0, CROP_SIZE, CROP_SIZE)


def test_crop_beside_the_photo_is_black() -> None:
    transform = CropTransform(300, 300, 1.0, 3000.0, 150.0)
    image = np.full((300, 300, 3), 255, dtype=np.uint8)
    assert not crop_image(image, transform).any()
    assert not transform.labels_to_image(np.ones((CROP_SIZE, CROP_SIZE), np.uint8)).any()


def test_crop_touches_only_its_part_of_the_photo() -> None:
    transform = CropTransform(2000, 1500, 1.3, 1200.0, 700.0)
    image = photo(transform)
    x0, y0, x1, y1 = transform.image_box()
    outside = np.zeros_like(image)
    outside[y0 - 4 : y1 + 4, x0 - 4 : x1 + 4] = image[y0 - 4 : y1 + 4, x0 - 4 : x1 + 4]
    np.testing.assert_array_equal(crop_image(image, transform), crop_image(outside, transform))


def place_standard_face(
    image_size: tuple[int, int], scale: float, x: float, y: float
) -> NDArray[np.float64]:
    """The standard points drawn at ``scale`` pixels per unit around (x, y), y down."""
    return np.stack([x + scale * STANDARD_POINTS[:, 0], y - scale * STANDARD_POINTS[:, 1]], axis=1)


@given(
    w0=st.integers(40, 4000),
    h0=st.integers(40, 4000),
    scale=st.floats(10, 1500),
    fx=st.floats(0, 1),
    fy=st.floats(0, 1),
)
@settings(max_examples=100, deadline=None)
def test_estimate_finds_scale_and_place(
    w0: int, h0: int, scale: float, fx: float, fy: float
) -> None:
    points = place_standard_face((w0, h0), scale, fx * w0, fy * h0)
    transform = estimate_crop(points, (w0, h0), STANDARD_POINTS)
    assert transform.s == pytest.approx(102 / scale, rel=1e-3)
    assert transform.tx == pytest.approx(fx * w0, abs=2e-3 * scale)
    assert transform.ty == pytest.approx(h0 - 1 - fy * h0, abs=2e-3 * scale)
    # The face's origin lies at the crop's centre: up to the two truncations and the row that
    # flipping about h0 - 1 costs.
    centre = transform.to_crop([fx * w0, fy * h0])
    assert np.abs(centre - CROP_SIZE / 2).max() < 2 + 102 / scale + 0.02


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.full((5, 2), 50.0), "coincide"),
        (np.stack([np.arange(5.0), np.arange(5.0)], 1) * 20, "one line"),
        (np.stack([np.arange(5.0) * 20, np.full(5, 40.0)], 1), "one line"),
        (np.full((5, 2), np.nan), "finite"),
        (np.full((5, 2), np.inf), "finite"),
        (np.zeros((4, 2)), r"\(4, 2\)"),
        (STANDARD_POINTS[:, :2] * 0.2 + 50, "scale"),
        (STANDARD_POINTS[:, :2] * (1e8, -1e8) + 50, "no pixel left"),
        (STANDARD_POINTS[:, :2] * (50, -50) + 5000, "beside"),
    ],
)
def test_points_without_a_crop_are_refused(points: NDArray[np.float64], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimate_crop(points, (100, 100), STANDARD_POINTS)


@pytest.mark.parametrize(
    "params",
    [
        [0, 10, 1, 5, 5],
        [10, 10, 0, 5, 5],
        [10, 10, -1, 5, 5],
        [10, 10, 0.05, 5, 5],
        [10, 10, 1e6, 5, 5],
        [10, 10, np.nan, 5, 5],
        [10, 10, 1, np.inf, 5],
        [10, 10, 1, 5],
    ],
)
def test_impossible_params_are_refused(params: list[float]) -> None:
    with pytest.raises(ValueError, match=r"crop|photo"):
        CropTransform.from_params(params)


def test_wrong_arrays_are_refused_with_their_shapes() -> None:
    transform = CropTransform(30, 20, 2.0, 15.0, 10.0)
    with pytest.raises(ValueError, match=r"\(20, 30, 3\) uint8, got \(30, 20, 3\) uint8"):
        crop_image(np.zeros((30, 20, 3), np.uint8), transform)
    with pytest.raises(ValueError, match="float32"):
        crop_image(np.zeros((20, 30, 3), np.float32), transform)
    with pytest.raises(ValueError, match=r"got \(10, 10\)"):
        transform.labels_to_image(np.zeros((10, 10), np.uint8))
    with pytest.raises(ValueError, match=r"\(\.\.\., 2\)"):
        transform.to_image(np.zeros((2, 3)))


@pytest.mark.parametrize("name", ["astronaut", "ex1"])
def test_golden_crop_and_landmarks(
    shared: Path, golden: Callable[[str], Mapping[str, NDArray]], name: str
) -> None:
    expected = golden(f"{name}__retinaface__resnet50__nvdr")
    transform = golden_crop(expected)
    image = np.asarray(Image.open(shared / "golden/inputs" / f"{name}.png").convert("RGB"))
    np.testing.assert_array_equal(crop_image(image, transform), expected["crop"])
    for landmarks in ("ldm68", "ldm106", "ldm106_2d", "ldm134"):
        points = expected[f"{landmarks}_crop"].reshape(-1, 2).astype(np.float64)
        points[:, 1] = CROP_SIZE - 1 - points[:, 1]
        in_image = expected[f"{landmarks}_image"].reshape(-1, 2)
        np.testing.assert_allclose(transform.to_image(points), in_image, atol=1e-3)
