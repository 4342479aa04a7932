"""Quality signals: their unit, their order of points, and where they are undefined."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tddfa3.assets.bundle import AssetBundle
from tddfa3.geometry.camera import image_camera
from tddfa3.geometry.crop import CropTransform
from tddfa3.geometry.quality import (
    face_size,
    five_from_68,
    quality_coverage,
    quality_points,
    quality_points106,
    quality_visible,
)

FIVE_OF_106 = [74, 83, 54, 84, 90]
"""The detector's five points among its 106."""


@pytest.fixture(scope="module")
def mean_face(small_bundle: AssetBundle) -> dict[str, np.ndarray]:
    """Landmarks of the mean face, frontal, in crop pixels."""
    data = small_bundle.face_model()
    camera = image_camera(np.zeros(3), np.zeros(3), CropTransform.identity())
    pixels = camera.project(data.mean_shape.astype(np.float64))
    return {name: pixels[index] for name, index in data.landmarks.items()}


def test_five_points_are_the_same_places_in_both_sets(mean_face: dict[str, np.ndarray]) -> None:
    """The 68 set's five points and the detector's five of 106 mean the same places of a face."""
    five = five_from_68(mean_face["68"])
    np.testing.assert_allclose(five, mean_face["106"][FIVE_OF_106], atol=6)
    left_eye, right_eye, nose, left_mouth, right_mouth = five
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < nose[0] < right_mouth[0]
    assert left_eye[1] < nose[1] < left_mouth[1]


def test_perfect_agreement_is_zero(mean_face: dict[str, np.ndarray]) -> None:
    landmarks = mean_face["68"]
    assert quality_points(five_from_68(landmarks), landmarks) == 0
    assert quality_points106(mean_face["106"], mean_face["106"], landmarks) == 0


@pytest.mark.parametrize("scale", [0.1, 1.0, 17.0])
def test_unit_is_the_inter_ocular_distance(mean_face: dict[str, np.ndarray], scale: float) -> None:
    """Points off by a tenth of the distance of the outer eye corners give 0.1, at any size."""
    landmarks = mean_face["68"] * scale
    tenth = 0.1 * np.linalg.norm(landmarks[45] - landmarks[36])
    off = [0.6 * tenth, 0.8 * tenth]
    assert quality_points(five_from_68(landmarks) + off, landmarks) == pytest.approx(0.1)
    points106 = mean_face["106"] * scale
    assert quality_points106(points106 + off, points106, landmarks) == pytest.approx(0.1)


def test_unit_of_a_profile_does_not_vanish(small_bundle: AssetBundle) -> None:
    """At a yaw of 90 degrees the eye corners coincide; the unit stays near the frontal one."""
    data = small_bundle.face_model()
    sizes = []
    for yaw in (0, np.pi / 2):
        camera = image_camera([0, yaw, 0], np.zeros(3), CropTransform.identity())
        sizes.append(face_size(camera.project(data.mean_shape[data.landmarks["68"]])))
    assert 0.5 < sizes[1] / sizes[0] < 1.2


def test_swapped_eyes_are_a_bad_value(mean_face: dict[str, np.ndarray]) -> None:
    landmarks = mean_face["68"]
    mirrored = five_from_68(landmarks)[[1, 0, 2, 4, 3]]
    value = quality_points(mirrored, landmarks)
    assert value is not None
    assert value > 0.4


def test_undefined_is_none(mean_face: dict[str, np.ndarray]) -> None:
    landmarks = mean_face["68"]
    five = five_from_68(landmarks)
    assert quality_points(None, landmarks) is None
    assert quality_points106(None, mean_face["106"], landmarks) is None
    five[3, 1] = np.nan
    assert quality_points(five, landmarks) is None
    assert quality_points(np.zeros((5, 2)), np.zeros((68, 2))) is None
    assert quality_points(np.zeros((5, 2)), np.full((68, 2), np.nan)) is None


def test_quality_visible_is_a_share_per_face() -> None:
    visible = torch.tensor([[True, True, False, False], [True] * 4, [False] * 4])
    assert quality_visible(visible).tolist() == [0.5, 1.0, 0.0]
    assert quality_visible(visible[:0]).shape == (0,)


def test_quality_coverage_counts_pixels_that_a_triangle_owns() -> None:
    raster = torch.zeros(2, 4, 8, 4)
    raster[0, :2, :, 3] = 5.0
    raster[1, 0, 0, :3] = 1.0  # barycentrics and depth alone are no triangle
    assert quality_coverage(raster).tolist() == [0.5, 0.0]
    assert quality_coverage(raster[:0]).shape == (0,)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"points5 must have shape \(5, 2\), not \(4, 2\)"):
        quality_points(np.zeros((4, 2)), np.zeros((68, 2)))
    with pytest.raises(ValueError, match=r"landmarks68 must have shape \(68, 2\)"):
        quality_points(np.zeros((5, 2)), np.zeros((106, 2)))
    with pytest.raises(ValueError, match=r"points106 must have shape \(106, 2\)"):
        quality_points106(np.zeros((5, 2)), np.zeros((106, 2)), np.zeros((68, 2)))
    with pytest.raises(ValueError, match="visible"):
        quality_visible(torch.zeros(3))
    with pytest.raises(ValueError, match="raster"):
        quality_coverage(torch.zeros(2, 4, 4, 3))
