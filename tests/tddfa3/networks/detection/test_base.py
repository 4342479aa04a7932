"""Detections: consistent arrays and order."""

from __future__ import annotations

import numpy as np
import pytest

from tddfa3.networks.detection.base import Detections, check_images, to_tensor


def three_faces() -> Detections:
    boxes = [[0, 0, 10, 10], [0, 0, 30, 20], [5, 5, 15, 15]]
    points5 = np.arange(30).reshape(3, 5, 2)
    points106 = np.arange(3 * 212).reshape(3, 106, 2)
    return Detections.sorted(boxes, [0.8, 0.9, 0.95], points5, points106)


def test_sorted_puts_the_best_score_first_and_moves_everything_along() -> None:
    faces = three_faces()
    np.testing.assert_allclose(faces.scores, [0.95, 0.9, 0.8])
    np.testing.assert_array_equal(faces.boxes[:, 2], [15, 30, 10])
    np.testing.assert_array_equal(faces.points5[:, 0, 0], [20, 10, 0])
    assert faces.points106 is not None
    np.testing.assert_array_equal(faces.points106[:, 0, 0], [424, 212, 0])
    for array in (faces.boxes, faces.scores, faces.points5, faces.points106):
        assert array.dtype == np.float32


def test_equal_scores_keep_their_order() -> None:
    boxes = np.arange(12).reshape(3, 4)
    faces = Detections.sorted(boxes, [0.5, 0.5, 0.5], np.zeros((3, 5, 2)))
    np.testing.assert_array_equal(faces.boxes, boxes)


def test_an_image_without_a_face() -> None:
    nothing = Detections.none()
    assert len(nothing) == 0
    assert nothing.boxes.shape == (0, 4)
    assert nothing.points5.shape == (0, 5, 2)


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    boxes, scores = np.zeros((2, 4), np.float32), np.zeros(2, np.float32)
    with pytest.raises(ValueError, match=r"points5 must be \(2, 5, 2\), got \(1, 5, 2\)"):
        Detections(boxes, scores, np.zeros((1, 5, 2), np.float32))
    with pytest.raises(ValueError, match="points106 must be"):
        Detections(boxes, scores, np.zeros((2, 5, 2), np.float32), np.zeros((2, 68, 2), np.float32))
    with pytest.raises(ValueError, match="descending"):
        Detections(boxes, np.array([0.1, 0.2], np.float32), np.zeros((2, 5, 2), np.float32))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        None,
    ],
)
def test_images_of_another_kind_are_refused_by_number(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"images\[1\] must be \(H, W, 3\) uint8"):
        check_images([np.zeros((4, 4, 3), np.uint8), image])


def test_tensor_of_a_read_only_reversed_view_has_its_pixels(astronaut: np.ndarray) -> None:
    view = astronaut[::-1, :, ::-1]
    view.flags.writeable = False
    np.testing.assert_array_equal(to_tensor(view, "cpu").numpy(), view)
