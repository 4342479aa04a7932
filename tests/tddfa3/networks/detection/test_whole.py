"""No detector: the image is the crop."""

from __future__ import annotations

import numpy as np
import pytest

from tddfa3.networks.detection.whole import WholeImage


def test_whole_image_is_one_face_without_points() -> None:
    image = np.zeros((224, 224, 3), np.uint8)
    first, second = WholeImage().detect([image, image])
    for faces in (first, second):
        np.testing.assert_array_equal(faces.boxes, [[0, 0, 224, 224]])
        np.testing.assert_array_equal(faces.scores, [1.0])
        assert faces.points5.shape == (1, 5, 2)
        assert np.isnan(faces.points5).all()
        assert faces.points106 is None


def test_no_images_give_no_results() -> None:
    assert WholeImage().detect([]) == []


@pytest.mark.parametrize("shape", [(224, 225, 3), (512, 512, 3), (1, 1, 3)])
def test_other_sizes_are_refused_with_the_size_and_the_way_out(shape: tuple[int, ...]) -> None:
    images = [np.zeros((224, 224, 3), np.uint8), np.zeros(shape, np.uint8)]
    expected = rf"images\[1\] is {shape[1]}x{shape[0]}; .* 224x224 .* Choose a detector"
    with pytest.raises(ValueError, match=expected):
        WholeImage().detect(images)
