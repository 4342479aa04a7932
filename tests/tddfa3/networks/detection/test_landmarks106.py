"""The 106-point network's input squares and its soft arg-max."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tddfa3.networks.detection.landmarks106 import (
    FaceSquare,
    LandmarkNetwork,
    Landmarks106,
    soft_argmax,
)
from tddfa3.networks.weights import load_network


@pytest.fixture(scope="module")
def landmarks() -> Landmarks106:
    torch.manual_seed(0)
    weights = LandmarkNetwork().state_dict()
    network = load_network(LandmarkNetwork, weights, source="random", device="cpu")
    return Landmarks106(network, device="cpu", batch_size=3)


def test_soft_argmax_gives_the_row_as_x() -> None:
    heatmaps = torch.full((1, 2, 14, 14), -50.0)
    heatmaps[0, 0, 3, 9] = 50.0
    heatmaps[0, 1, 13, 0] = 50.0
    expected = torch.tensor([[[3.0, 9.0], [13.0, 0.0]]]) / 14
    torch.testing.assert_close(soft_argmax(heatmaps), expected)


def test_square_around_a_box() -> None:
    square = FaceSquare.around(10, 20, 49, 99)
    # 80 rows, counting both borders, enlarged 1.35 times
    assert square.side == pytest.approx(108)
    assert (square.x + square.side / 2, square.y + square.side / 2) == pytest.approx((29.5, 59.5))


def test_points_of_the_cut_go_back_to_the_square() -> None:
    square = FaceSquare(-12.25, 30.5, 448.0)
    corners = square.to_image(np.array([[0, 0], [224, 224], [112, 0]], dtype=np.float32))
    np.testing.assert_allclose(corners, [[-12.25, 30.5], [435.75, 478.5], [211.75, 30.5]])


def test_cut_inside_the_photo_is_a_resized_part(astronaut: NDArray[np.uint8]) -> None:
    cut = FaceSquare(100.7, 50.2, 300.0).cut(astronaut)
    expected = cv2.resize(astronaut[50:350, 100:400], (224, 224))
    np.testing.assert_array_equal(cut, expected)


def test_cut_beyond_the_photo_is_filled_with_the_means(astronaut: NDArray[np.uint8]) -> None:
    cut = FaceSquare(-112.0, -112.0, 224.0).cut(astronaut)
    assert cut is not None
    np.testing.assert_array_equal(cut[112:, 112:], astronaut[:112, :112])
    for corner in (cut[:112, :112], cut[:112, 112:], cut[112:, :112]):
        np.testing.assert_array_equal(np.unique(corner.reshape(-1, 3), axis=0), [[104, 117, 124]])


@pytest.mark.parametrize(
    "square",
    [
        FaceSquare(-300, 100, 250),
        FaceSquare(100, -300, 250),
        FaceSquare(600, 100, 250),
        FaceSquare(100, 600, 250),
        FaceSquare(511.9, 100, 0.05),
        FaceSquare(-1e5, -1e5, 2e5),
        FaceSquare(0, 0, float("nan")),
        FaceSquare(0, 0, -5),
    ],
)
def test_squares_beside_the_photo_and_absurd_ones_are_not_cut(
    astronaut: NDArray[np.uint8], square: FaceSquare
) -> None:
    assert square.cut(astronaut) is None


def test_faces_of_several_photos_at_once_equal_single_ones(
    landmarks: Landmarks106, astronaut: NDArray[np.uint8]
) -> None:
    images = [astronaut, astronaut[:200], astronaut[:, :150], astronaut, astronaut[::2]]
    boxes = [
        np.array(box)
        for box in (
            [200, 60, 260, 170],
            [10, 10, 90, 90],
            [100, 100, 149, 180],
            [5000, 5000, 5100, 5100],
            [0, 0, 30, 30],
        )
    ]
    together = landmarks.find(images, boxes)
    assert together[3] is None
    for i in (0, 1, 2, 4):
        (alone,) = landmarks.find([images[i]], [boxes[i]])
        found = together[i]
        assert alone is not None
        assert found is not None
        assert alone.shape == (106, 2)
        np.testing.assert_allclose(found, alone, atol=1e-3)


def test_no_faces_give_no_points(landmarks: Landmarks106) -> None:
    assert landmarks.find([], []) == []
