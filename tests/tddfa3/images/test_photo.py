"""Photographs of which fewer pixels were decoded: the same labels, in pixels of the photograph."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from tddfa3.assets.bundle import AssetBundle
from tddfa3.drawing.draw import overlay, sheet
from tddfa3.face import Face
from tddfa3.geometry.crop import CropTransform, crop_image
from tddfa3.images.photo import ReducedPhoto, scale_pixels, size_of
from tddfa3.labeler import FaceLabeler
from tddfa3.outputs import Outputs

FACTOR = 2


@pytest.fixture(scope="module")
def full() -> np.ndarray:
    """A portrait of 2048 x 2048 pixels, with as much detail as one of half that size."""
    portrait = skimage.data.astronaut()
    return cv2.resize(portrait, (2048, 2048), interpolation=cv2.INTER_CUBIC)


def reduced(full: np.ndarray, factor: int = FACTOR) -> ReducedPhoto:
    height, width = full.shape[0] // factor, full.shape[1] // factor
    blocks = full.reshape(height, factor, width, factor, 3).astype(np.float32)
    return ReducedPhoto(np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8), factor, lambda: full)


@pytest.fixture(scope="module")
def labeler(open_bundle: AssetBundle) -> FaceLabeler:
    outputs = Outputs(masks=("seg", "seg_visible", "rle"), renders=("face", "shape"))
    return FaceLabeler(open_bundle, outputs=outputs)


@pytest.fixture(scope="module")
def faces(labeler: FaceLabeler, full: np.ndarray) -> tuple[Face, Face]:
    """Of all pixels, and of a quarter of them."""
    ((whole,),) = labeler([full])
    ((fewer,),) = labeler([replace(reduced(full), full=never)])
    return whole, fewer


def never() -> np.ndarray:
    raise AssertionError("the crop is coarser than the reduced photograph")


def test_labels_are_the_same_within_bounds(faces: tuple[Face, Face]) -> None:
    whole, fewer = faces
    eyes = np.linalg.norm(whole.landmarks["68"][45] - whole.landmarks["68"][36])
    assert eyes > 200, "in pixels of the photograph"
    for name, points in whole.landmarks.items():
        distance = np.linalg.norm(points - fewer.landmarks[name], axis=1)
        assert distance.mean() < 0.01 * eyes
        assert distance.max() < 0.03 * eyes
    assert np.abs(whole.box - fewer.box).max() < 0.15 * eyes, "MTCNN's pyramid has other steps"
    assert whole.points5 is not None
    assert fewer.points5 is not None
    assert np.linalg.norm(whole.points5 - fewer.points5, axis=1).max() < 0.03 * eyes
    np.testing.assert_allclose(fewer.camera.K, whole.camera.K, rtol=0.02)
    for angle in ("yaw", "pitch", "roll"):
        assert getattr(fewer, angle) == pytest.approx(getattr(whole, angle), abs=1.0)


def test_everything_is_in_the_photographs_frame(faces: tuple[Face, Face], full: np.ndarray) -> None:
    _, fewer = faces
    assert (fewer.crop.w0, fewer.crop.h0) == size_of(reduced(full)) == (2048, 2048)
    assert fewer.masks_rle is not None
    assert all(rle["size"] == [2048, 2048] for rle in fewer.masks_rle.values())


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("s", [0.123, 0.1, 1 / 3])
def test_a_crop_of_the_reduced_photo_is_the_same_window(factor: int, s: float) -> None:
    crop = CropTransform(4032, 3024, s, 1234.567, 1765.4321)
    own = crop.reduced(factor)
    assert (own.w0, own.h0) == (4032 // factor, 3024 // factor)
    for name in ("width", "height", "left", "up"):
        assert getattr(own, name) == getattr(crop, name)


def test_the_crop_differs_by_rounding_and_filters_alone(full: np.ndarray) -> None:
    crop = CropTransform(2048, 2048, 0.2, 880.0, 1500.0)
    fewer = crop_image(reduced(full).pixels, crop.reduced(FACTOR))
    difference = np.abs(fewer.astype(int) - crop_image(full, crop))
    assert difference.mean() < 1.5


def test_a_small_face_is_labelled_from_all_pixels(labeler: FaceLabeler) -> None:
    portrait = skimage.data.astronaut()
    asked = []

    def full() -> np.ndarray:
        asked.append("full")
        return portrait

    photo = replace(reduced(portrait, 2), full=full)
    ((expected,),) = labeler([portrait])
    assert expected.crop.s > 0.5
    ((found,),) = labeler([photo])
    assert asked == ["full"]
    np.testing.assert_array_equal(found.landmarks["68"], expected.landmarks["68"])


def test_pictures_are_drawn_over_what_was_decoded(
    faces: tuple[Face, Face], full: np.ndarray
) -> None:
    photo = reduced(full)
    _, fewer = faces
    shown = overlay(photo, [fewer])
    assert shown.shape == photo.pixels.shape
    expected = cv2.resize(overlay(full, [fewer], max_side=None), shown.shape[:2])
    changed = (np.abs(shown.astype(int) - photo.pixels) > 40).any(axis=2)
    expected_changed = (np.abs(expected.astype(int) - photo.pixels) > 40).any(axis=2)
    centre, expected_centre = (np.argwhere(c).mean(axis=0) for c in (changed, expected_changed))
    assert np.abs(centre - expected_centre).max() < 10
    from_all = sheet(full, fewer)
    from_fewer = sheet(photo, fewer)
    assert from_fewer.shape == from_all.shape
    assert np.abs(from_fewer.astype(int) - from_all).mean() < 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pixels_scale_about_the_pictures_edge(dtype: type) -> None:
    edges_and_centre: NDArray[Any] = np.array([[-0.5, -0.5], [0, 0], [9.5, 4.5]], dtype)
    larger = scale_pixels(edges_and_centre, 4)
    np.testing.assert_array_equal(larger, np.array([[-0.5, -0.5], [1.5, 1.5], [39.5, 19.5]]))
    assert larger.dtype == dtype
    np.testing.assert_array_equal(scale_pixels(larger, 1 / 4), edges_and_centre)
