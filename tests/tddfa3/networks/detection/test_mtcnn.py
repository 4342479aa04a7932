"""MTCNN: the package's points, real photographs, any size of image."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tddfa3.assets.bundle import AssetBundle
from tddfa3.networks.detection import Mtcnn, MtcnnConfig, build_detector
from tddfa3.networks.detection import mtcnn as mtcnn_module
from tddfa3.networks.detection.mtcnn import pyramid_scales
from tddfa3.networks.detection.mtcnn_networks import propose

# What the package gives for these images; see "made_with" in the file.
PACKAGE = json.loads((Path(__file__).parent / "mtcnn_package.json").read_text())["faces"]
VARIANTS: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "photo": lambda photo: photo,
    "mirrored_pair_halved": lambda photo: np.hstack([photo, photo[:, ::-1]])[::2, ::2],
    "left_edge": lambda photo: photo[40:240, 215:400],
}


@pytest.fixture(scope="module")
def detector(small_bundle: AssetBundle) -> Mtcnn:
    built = build_detector("mtcnn", small_bundle, "cpu")
    assert isinstance(built, Mtcnn)
    return built


@pytest.mark.parametrize("variant", VARIANTS)
def test_points_are_those_of_the_package(
    detector: Mtcnn, astronaut: NDArray[np.uint8], variant: str
) -> None:
    expected = PACKAGE[variant]
    (faces,) = detector.detect([VARIANTS[variant](astronaut)])
    assert len(faces) == len(expected)
    np.testing.assert_allclose(faces.points5, [f["points5"] for f in expected], atol=0.01)
    np.testing.assert_allclose(faces.boxes, [f["box"] for f in expected], atol=0.01)
    np.testing.assert_allclose(faces.scores, [f["score"] for f in expected], atol=1e-4)
    assert faces.points106 is None


def test_points_on_photographs_are_near_the_hand_checked_ones(
    detector: Mtcnn, shared: Path
) -> None:
    files = sorted(p for p in (shared / "photos").iterdir() if p.suffix in (".jpg", ".png"))
    photos = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    errors = {}
    for file, faces in zip(files, detector.detect(photos), strict=True):
        assert len(faces) >= 1, file.name
        truth = np.loadtxt(file.with_suffix(".txt")).reshape(5, 2)
        distance = np.linalg.norm(faces.points5[0] - truth, axis=1).mean()
        errors[file.name] = distance / np.linalg.norm(truth[0] - truth[1])
    assert len(errors) == 14
    assert max(errors.values()) < 0.10, errors
    assert np.mean(list(errors.values())) < 0.065, errors


def test_batch_equals_single_images(detector: Mtcnn, astronaut: NDArray[np.uint8]) -> None:
    images = [variant(astronaut) for variant in VARIANTS.values()]
    images += [np.zeros((40, 60, 3), np.uint8), astronaut[:100, :100]]
    together = detector.detect(images)
    assert [len(faces) for faces in together] == [1, 2, 1, 0, 0]
    for image, faces in zip(images, together, strict=True):
        (alone,) = detector.detect([image])
        np.testing.assert_allclose(faces.points5, alone.points5, atol=1e-3)
        np.testing.assert_allclose(faces.boxes, alone.boxes, atol=1e-3)


def test_patches_in_small_batches_give_the_same(
    small_bundle: AssetBundle, detector: Mtcnn, astronaut: NDArray[np.uint8]
) -> None:
    image = VARIANTS["mirrored_pair_halved"](astronaut)
    small = build_detector("mtcnn", small_bundle, "cpu", MtcnnConfig(batch_size=3))
    np.testing.assert_allclose(
        small.detect([image])[0].points5, detector.detect([image])[0].points5, atol=1e-3
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (11, 11), (12, 12), (20, 20), (25, 19)])
def test_images_too_small_for_a_face_have_none(detector: Mtcnn, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert [len(faces) for faces in detector.detect([image])] == [0]


def test_no_images_give_no_results(detector: Mtcnn) -> None:
    assert detector.detect([]) == []


def test_boxes_stay_on_the_photo_and_points_are_finite(
    detector: Mtcnn, astronaut: NDArray[np.uint8]
) -> None:
    (faces,) = detector.detect([astronaut[75:160, 185:260]])
    assert len(faces) >= 1
    assert (faces.boxes >= 0).all()
    assert (faces.boxes <= (74, 84, 74, 84)).all()
    assert np.isfinite(faces.points5).all()


def test_faces_below_the_smallest_size_are_not_looked_for(
    small_bundle: AssetBundle, astronaut: NDArray[np.uint8]
) -> None:
    large_only = build_detector("mtcnn", small_bundle, "cpu", MtcnnConfig(min_face_size=300))
    assert len(large_only.detect([astronaut])[0]) == 0


@given(side=st.integers(1, 20000))
def test_pyramid_has_as_many_levels_as_the_package_makes(side: int) -> None:
    levels = round(-((np.log(side / 12) / np.log(0.709)) + 1))
    expected = 0.6 * 0.709 ** np.arange(max(0, levels))
    np.testing.assert_allclose(pyramid_scales(side, 20), expected, rtol=1e-12)


def test_every_level_is_large_enough_for_the_network() -> None:
    for side in range(1, 400):
        for min_face_size in (12, 20, 33):
            assert all(int(side * s) >= 12 for s in pyramid_scales(side, min_face_size))


@pytest.mark.parametrize("shape", [(12, 12), (13, 40), (61, 37), (64, 50)])
@pytest.mark.parametrize("rows_at_a_time", [1, 4, 1000])
def test_strips_equal_the_whole_level(
    detector: Mtcnn, shape: tuple[int, int], rows_at_a_time: int
) -> None:
    image = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    network = detector.networks.pnet
    with torch.inference_mode():
        regressions, probabilities = propose(network, image, rows_at_a_time)
        whole, logits = network(image[None])
    torch.testing.assert_close(regressions, whole[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(probabilities, logits[0].softmax(0)[1], rtol=0, atol=1e-5)


def test_large_levels_go_through_in_strips(
    detector: Mtcnn, astronaut: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    (expected,) = detector.detect([astronaut])
    monkeypatch.setattr(mtcnn_module, "_STRIP_PIXELS", 9000)
    (faces,) = detector.detect([astronaut])
    np.testing.assert_allclose(faces.points5, expected.points5, atol=1e-3)


@pytest.mark.parametrize("settings", [{"min_face_size": 11}, {"batch_size": 0}])
def test_impossible_settings_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least"):
        MtcnnConfig(**settings)
