"""RetinaFace and its 106 points: upstream's numbers, batches, odd photos."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tddfa3.assets.bundle import AssetBundle
from tddfa3.geometry.crop import crop_image, estimate_crop
from tddfa3.networks.detection import RetinaFace, RetinaFaceConfig, build_detector
from tddfa3.networks.detection.base import Detections
from tddfa3.networks.detection.retinaface import Letterbox
from tddfa3.networks.detection.retinaface_network import anchors, decode_boxes


@pytest.fixture(scope="module")
def golden_faces(
    golden_bundle: AssetBundle, shared: Path
) -> dict[str, tuple[NDArray[np.uint8], Detections]]:
    """Photo and faces of both golden photos, found in one call."""
    names = ("astronaut", "ex1")
    photos = [
        np.asarray(Image.open(shared / f"golden/inputs/{name}.png").convert("RGB"))
        for name in names
    ]
    found = build_detector("retinaface", golden_bundle, "cpu").detect(photos)
    return dict(zip(names, zip(photos, found, strict=True), strict=True))


@pytest.mark.parametrize("name", ["astronaut", "ex1"])
def test_golden_crop_end_to_end(
    golden_bundle: AssetBundle,
    golden: Callable[[str], Mapping[str, NDArray]],
    golden_faces: dict[str, tuple[NDArray[np.uint8], Detections]],
    name: str,
) -> None:
    photo, faces = golden_faces[name]
    expected = golden(f"{name}__retinaface__resnet50__nvdr")
    standard_points = golden_bundle.face_model().standard_points
    transform = estimate_crop(faces.points5[0], photo.shape[1::-1], standard_points)
    np.testing.assert_allclose(transform.params(), expected["trans_params"], rtol=0, atol=5e-3)
    difference = np.abs(crop_image(photo, transform).astype(int) - expected["crop"])
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_all_faces_are_kept_with_their_points(
    golden_faces: dict[str, tuple[NDArray[np.uint8], Detections]],
) -> None:
    _, faces = golden_faces["astronaut"]
    assert len(faces) > 1
    assert (faces.scores > 0.7).all()
    assert faces.points106 is not None
    np.testing.assert_array_equal(faces.points5, faces.points106[:, [74, 83, 54, 84, 90]])


def images_of_many_shapes() -> list[NDArray[np.uint8]]:
    generator = np.random.default_rng(0)
    shapes = [(96, 128), (300, 40), (1, 1), (2, 500), (128, 128), (77, 131), (5, 3)]
    return [generator.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]


def test_batch_equals_single_images(random_retinaface: Callable[..., RetinaFace]) -> None:
    detector = random_retinaface(batch_size=3, face_batch_size=4)
    images = images_of_many_shapes()
    together = detector.detect(images)
    assert sum(len(d) for d in together) > 5
    for image, faces in zip(images, together, strict=True):
        (alone,) = detector.detect([image])
        assert len(alone) == len(faces)
        np.testing.assert_array_equal(faces.boxes, alone.boxes)
        np.testing.assert_allclose(faces.scores, alone.scores, atol=1e-5)
        np.testing.assert_allclose(faces.points5, alone.points5, atol=1e-2)
        assert np.isfinite(faces.points5).all()


def test_same_images_give_the_same_faces(random_retinaface: Callable[..., RetinaFace]) -> None:
    detector = random_retinaface()
    images = images_of_many_shapes()[1:4]
    for first, second in zip(detector.detect(images), detector.detect(images), strict=True):
        np.testing.assert_array_equal(first.boxes, second.boxes)
        np.testing.assert_array_equal(first.points5, second.points5)


def test_threshold_and_suppression_leave_what_they_say(
    random_retinaface: Callable[..., RetinaFace],
) -> None:
    image = images_of_many_shapes()[4]
    (many,) = random_retinaface(score_threshold=0.5, nms_threshold=0.9).detect([image])
    (few,) = random_retinaface(score_threshold=0.9, nms_threshold=0.9).detect([image])
    assert len(many) > len(few)
    np.testing.assert_array_equal(few.scores, many.scores[many.scores > 0.9])
    (apart,) = random_retinaface(score_threshold=0.5, nms_threshold=0.0).detect([image])
    assert 0 < len(apart) < len(many)
    (nothing,) = random_retinaface(score_threshold=1.0).detect([image])
    assert len(nothing) == 0
    assert nothing.points5.shape == (0, 5, 2)


def test_no_images_give_no_results(random_retinaface: Callable[..., RetinaFace]) -> None:
    assert random_retinaface().detect([]) == []


def test_read_only_and_reversed_views_are_taken(
    random_retinaface: Callable[..., RetinaFace],
) -> None:
    detector = random_retinaface()
    image = images_of_many_shapes()[4][:, :, ::-1]
    image.flags.writeable = False
    (faces,) = detector.detect([image])
    (expected,) = detector.detect([np.ascontiguousarray(image)])
    np.testing.assert_array_equal(faces.boxes, expected.boxes)


@pytest.mark.parametrize(
    ("shape", "fitted", "left", "top"),
    [
        ((512, 512), (512, 512), 0, 0),
        ((256, 512), (256, 512), 0, 128),
        ((100, 333), (154, 512), 0, 179),
        ((1024, 3), (512, 2), 255, 0),
        ((1, 4000), (1, 512), 0, 255),
        # 5 * 512 / 1024 = 2.5 goes to the even 2
        ((5, 1024), (2, 512), 0, 255),
        ((7, 1), (512, 73), 219, 0),
    ],
)
def test_letterbox(shape: tuple[int, int], fitted: tuple[int, int], left: int, top: int) -> None:
    letterbox = Letterbox.fit(np.zeros((*shape, 3), np.uint8), 512)
    assert letterbox.pixels.shape == (*fitted, 3)
    assert (letterbox.left, letterbox.top) == (left, top)
    assert letterbox.scale == pytest.approx(max(shape) / 512)


def test_boxes_are_truncated_towards_zero_on_the_canvas_and_in_the_photo() -> None:
    letterbox = Letterbox(np.zeros((256, 512, 3), np.uint8), 0, 128, 0.75)
    boxes = letterbox.to_photo(np.array([[-3.9, 127.9, 101.9, 300.2]]))
    # canvas: -3, 127, 101, 300; less the border: -3, -1, 101, 172; in the photo -2.25, -0.75, …
    np.testing.assert_array_equal(boxes, [[-2, 0, 75, 129]])


def test_boxes_that_are_not_finite_stay_numbers() -> None:
    letterbox = Letterbox(np.zeros((512, 512, 3), np.uint8), 0, 0, 1.0)
    boxes = letterbox.to_photo(np.array([[np.nan, -np.inf, np.inf, 5.5]]))
    assert boxes.dtype == np.int64
    assert boxes[0, 1] < -1000
    assert boxes[0, 2] > 1000


def test_anchors_cover_the_canvas_level_by_level() -> None:
    priors = anchors(512)
    assert priors.shape == (2 * (64**2 + 32**2 + 16**2), 4)
    torch.testing.assert_close(priors[0], torch.tensor([4.0, 4.0, 16.0, 16.0]) / 512)
    torch.testing.assert_close(priors[1], torch.tensor([4.0, 4.0, 32.0, 32.0]) / 512)
    torch.testing.assert_close(priors[2], torch.tensor([12.0, 4.0, 16.0, 16.0]) / 512)
    torch.testing.assert_close(priors[-1], torch.tensor([496.0, 496.0, 512.0, 512.0]) / 512)


def test_decoded_boxes() -> None:
    prior = torch.tensor([[0.5, 0.5, 0.2, 0.4]])
    still = decode_boxes(torch.zeros(1, 4), prior)
    torch.testing.assert_close(still, torch.tensor([[0.4, 0.3, 0.6, 0.7]]))
    doubled = torch.tensor([[1.0, 0.0, float(np.log(2)) / 0.2, 0.0]])
    moved = decode_boxes(doubled, prior)
    torch.testing.assert_close(moved, torch.tensor([[0.32, 0.3, 0.72, 0.7]]))


@pytest.mark.parametrize("settings", [{"size": 500}, {"size": 0}, {"batch_size": 0}])
def test_impossible_settings_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        RetinaFaceConfig(**settings)


@pytest.mark.parametrize("which", ["best", "largest"])
def test_one_face_of_many_is_looked_at(
    random_retinaface: Callable[..., RetinaFace], monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    detector = random_retinaface()
    images = images_of_many_shapes()
    everything = detector.detect(images)
    assert max(map(len, everything)) > 1
    asked: list[int] = []
    find = detector.landmarks.find

    def counted(images: Any, boxes: Any) -> Any:
        asked.append(len(boxes))
        return find(images, boxes)

    monkeypatch.setattr(detector.landmarks, "find", counted)
    for found, of_all in zip(detector.detect(images, which), everything, strict=True):
        if len(of_all) == 0:
            assert len(found) == 0
            continue
        areas = (of_all.boxes[:, 2:] - of_all.boxes[:, :2]).prod(axis=1)
        k = 0 if which == "best" else int(np.argmax(areas))
        assert (len(found), found.left_out_better) == (1, k)
        assert found.left_out >= len(of_all) - 1
        np.testing.assert_array_equal(found.boxes[0], of_all.boxes[k])
        assert found.points106 is not None
        assert of_all.points106 is not None
        np.testing.assert_allclose(found.points106[0], of_all.points106[k], atol=1e-3)
    assert sum(asked) < sum(map(len, everything))


def test_the_next_face_is_taken_where_the_first_lies_beside_the_photo(
    random_retinaface: Callable[..., RetinaFace], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = random_retinaface()
    image = max(images_of_many_shapes(), key=lambda image: len(detector.detect([image])[0]))
    (everything,) = detector.detect([image])
    calls: list[int] = []

    def find(images: list, boxes: list) -> list:
        calls.append(len(boxes))
        return [None] if len(calls) == 1 else [np.full((106, 2), 7.0)]

    monkeypatch.setattr(detector.landmarks, "find", find)
    (found,) = detector.detect([image], "best")
    assert calls == [1, 1]
    assert found.left_out_better == 0
    np.testing.assert_array_equal(found.boxes[0], everything.boxes[1])
    monkeypatch.setattr(detector.landmarks, "find", lambda images, boxes: [None] * len(boxes))
    assert len(detector.detect([image], "best")[0]) == 0
