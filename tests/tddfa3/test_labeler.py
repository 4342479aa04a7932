"""The labeler's two doors, on a small bundle."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch

from tddfa3.assets.bundle import AssetBundle
from tddfa3.device import choose_device, crops_to_tensor
from tddfa3.errors import UnavailableError, UserError
from tddfa3.face import Face
from tddfa3.geometry.crop import crop_image
from tddfa3.labeler import FaceLabeler
from tddfa3.networks.detection import Detections
from tddfa3.outputs import Outputs
from tests.support.everything import EVERYTHING


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return np.ascontiguousarray(skimage.data.astronaut())


@pytest.fixture(scope="module")
def labeler(small_bundle: AssetBundle) -> FaceLabeler:
    return FaceLabeler(
        small_bundle, detector="mtcnn", backbone="mbnetv3", faces="all", outputs=EVERYTHING
    )


@pytest.fixture(scope="module")
def crop_labeler(small_bundle: AssetBundle) -> FaceLabeler:
    return FaceLabeler(small_bundle, detector="none", backbone="mbnetv3")


def assert_same(a: Any, b: Any, atol: float, where: str = "face") -> None:
    """Two records agree field by field; floats to ``atol``."""
    if dataclasses.is_dataclass(a):
        for item in dataclasses.fields(a):
            assert_same(getattr(a, item.name), getattr(b, item.name), atol, f"{where}.{item.name}")
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], atol, f"{where}[{key!r}]")
    elif isinstance(a, np.ndarray) and a.dtype.kind == "f":
        np.testing.assert_allclose(a, b, rtol=0, atol=atol, err_msg=where)
    elif isinstance(a, np.ndarray):
        assert (a != b).mean() <= 0.001, where
    elif isinstance(a, float):
        assert a == pytest.approx(b, abs=atol), where
    elif not isinstance(a, str):
        assert a == b, where


def test_a_photograph(labeler: FaceLabeler, astronaut: np.ndarray) -> None:
    [[face]] = labeler([astronaut])
    assert face.face_index == 0
    assert face.n_faces == 1
    assert face.score > 0.9
    x0, y0, x1, y1 = face.box
    assert 150 < x0 < x1 < 300
    assert 40 < y0 < y1 < 260
    assert set(face.landmarks) == {"68", "106", "106_2d", "134"}
    assert face.landmarks["68"].shape == (68, 2)
    assert face.landmarks_visible["134"].shape == (134,)
    assert face.seg_visible is not None
    assert face.masks_rle is not None
    assert face.quality_coverage is not None
    assert face.quality_visible is not None
    assert face.quality_points is not None
    assert face.seg_visible.shape == (224, 224)
    assert set(np.unique(face.seg_visible)) <= set(range(9))
    assert face.masks_rle["nose"]["size"] == [512, 512]
    assert 0 < face.quality_coverage <= 1
    assert 0 < face.quality_visible <= 1
    assert face.quality_points > 0
    assert face.textures["extracted"].shape == (128, 128, 3)
    assert face.meshes["pca"].vertices.shape == (labeler.geometry.model.n_vertices, 3)


def test_mixed_sizes_and_nothing_to_find(labeler: FaceLabeler, astronaut: np.ndarray) -> None:
    empty = np.full((80, 200, 3), 127, np.uint8)
    dot = np.zeros((1, 1, 3), np.uint8)
    found = labeler([empty, astronaut, dot, np.ascontiguousarray(astronaut[:300, 100:400])])
    assert [len(faces) for faces in found] == [0, 1, 0, 1]


def test_no_images(labeler: FaceLabeler) -> None:
    assert labeler([]) == []


def test_batch_of_n_equals_n_batches_of_one(labeler: FaceLabeler, astronaut: np.ndarray) -> None:
    images = [
        astronaut,
        np.ascontiguousarray(astronaut[:, ::-1]),
        np.ascontiguousarray(astronaut[:320, 80:420]),
    ]
    together = labeler(images)
    for faces, image in zip(together, images, strict=True):
        [alone] = labeler([image])
        assert len(faces) == len(alone)
        for a, b in zip(faces, alone, strict=True):
            assert_same(a, b, atol=1e-3)


def test_deterministic(labeler: FaceLabeler, astronaut: np.ndarray) -> None:
    first, second = labeler([astronaut]), labeler([astronaut])
    assert_same(first[0][0], second[0][0], atol=0)


def test_several_faces_and_the_choice_among_them(
    small_bundle: AssetBundle, astronaut: np.ndarray
) -> None:
    head = astronaut[0:240, 120:330]
    canvas = np.full((400, 700, 3), 90, np.uint8)
    canvas[80:320, 30:240] = head
    canvas[20:380, 300:615] = np.asarray(_resize(head, 315, 360))
    made = {
        faces: FaceLabeler(small_bundle, detector="mtcnn", backbone="mbnetv3", faces=faces)
        for faces in ("all", "best", "largest")
    }
    [every] = made["all"]([canvas])
    assert len(every) == 2
    assert [f.face_index for f in every] == [0, 1]
    assert every[0].score >= every[1].score
    [[best]] = made["best"]([canvas])
    assert best.face_index == 0
    assert best.n_faces == 2
    [[largest]] = made["largest"]([canvas])
    areas = [_area(f) for f in every]
    assert largest.face_index == int(np.argmax(areas))


def test_only_the_face_that_is_asked_for_is_looked_at(
    small_bundle: AssetBundle, astronaut: np.ndarray
) -> None:
    boxes = np.array([[0, 0, 9, 9], [100, 50, 340, 290], [1, 1, 9, 9]], np.float32)
    points = np.array(
        [[[205, 110], [250, 110], [228, 140], [210, 160], [248, 160]]] * 3, np.float32
    )
    points[0] = 7  # spans no face
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    asked: list[str] = []

    class Finder:
        name = "finder"
        needed_side: int | None = None

        def detect(self, images: Any, which: str = "all") -> list[Detections]:
            asked.append(which)
            if which == "all":
                return [Detections(boxes, scores, points)]
            k = 0 if which == "best" else 1
            own = slice(k, k + 1)
            return [Detections(boxes[own], scores[own], points[own], None, 2, k)]

    labeler = FaceLabeler(small_bundle, detector="none", backbone="mbnetv3", faces="largest")
    labeler.detector = Finder()
    [[largest]] = labeler([astronaut])
    assert asked == ["largest"]
    assert (largest.face_index, largest.n_faces) == (1, 3)
    np.testing.assert_array_equal(largest.box, boxes[1])

    labeler.faces = "best"
    [[best]] = labeler([astronaut])
    assert asked[1:] == ["best", "all"], "the best has no crop, so the others are looked at"
    assert (best.face_index, best.n_faces) == (0, 2)
    np.testing.assert_array_equal(best.box, boxes[1])


def _resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((width, height)))


def _area(face: Face) -> float:
    return float((face.box[2] - face.box[0]) * (face.box[3] - face.box[1]))


@pytest.mark.parametrize("frame", ["image", "model"])
def test_a_mesh_projects_onto_the_landmarks(
    small_bundle: AssetBundle, astronaut: np.ndarray, frame: Any
) -> None:
    labeler = FaceLabeler(
        small_bundle,
        detector="mtcnn",
        backbone="mbnetv3",
        outputs=Outputs(meshes=("pca",), mesh_frame=frame),
    )
    [[face]] = labeler([astronaut])
    camera, vertices = face.camera, face.meshes["pca"].vertices.astype(np.float64)
    if frame == "model":
        vertices = vertices @ camera.R.T + camera.t
    projected = vertices @ camera.K.T
    projected = projected[:, :2] / projected[:, 2:]
    indices = small_bundle.face_model().landmarks["68"]
    np.testing.assert_allclose(projected[indices], face.landmarks["68"], rtol=0, atol=0.01)


def test_ready_crops(crop_labeler: FaceLabeler, astronaut: np.ndarray) -> None:
    crop = np.ascontiguousarray(astronaut[20:244, 110:334])
    [[face]] = crop_labeler([crop])
    assert face.points5 is None
    assert face.quality_points is None
    np.testing.assert_array_equal(face.landmarks["68"], face.landmarks_crop["68"])
    np.testing.assert_array_equal(face.box, [0, 0, 224, 224])


def test_a_crop_of_another_size_is_refused(crop_labeler: FaceLabeler) -> None:
    with pytest.raises(ValueError, match="224"):
        crop_labeler([np.zeros((100, 100, 3), np.uint8)])


def test_no_crops(crop_labeler: FaceLabeler) -> None:
    batch = crop_labeler.label_crops(torch.zeros(0, 3, 224, 224))
    assert len(batch) == 0
    assert batch.landmarks["68"].shape == (0, 68, 2)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3), np.float32),
        np.zeros((0, 10, 3), np.uint8),
        "face.jpg",
    ],
    ids=["grey", "alpha", "float", "empty", "path"],
)
def test_bad_images_are_named(labeler: FaceLabeler, image: Any) -> None:
    with pytest.raises(ValueError, match=r"images\[1\]"):
        labeler([np.zeros((50, 50, 3), np.uint8), image])


@pytest.fixture(scope="module")
def refining(small_bundle: AssetBundle) -> FaceLabeler:
    return FaceLabeler(small_bundle, detector="mtcnn", refine="points", lighting="solve")


def test_refining_lowers_the_distance_to_the_points(
    small_bundle: AssetBundle, refining: FaceLabeler, astronaut: np.ndarray
) -> None:
    [[plain]] = FaceLabeler(small_bundle, detector="mtcnn")([astronaut])
    [[refined]] = refining([astronaut])
    assert plain.quality_points is not None
    assert refined.quality_points is not None
    assert refined.quality_points < 0.8 * plain.quality_points
    assert not np.array_equal(plain.coefficients["angle"], refined.coefficients["angle"])


def test_both_doors_refine_and_solve_alike(refining: FaceLabeler, astronaut: np.ndarray) -> None:
    [[face]] = refining([astronaut])
    crop = crops_to_tensor(crop_image(astronaut, face.crop)[None], refining.device)
    assert face.points5 is not None
    points5 = torch.from_numpy(face.crop.to_crop(face.points5))[None].float()
    batch = refining.label_crops(crop, points5)
    found = torch.cat([torch.from_numpy(part) for part in face.coefficients.values()])
    torch.testing.assert_close(batch.alpha[0], found, rtol=0, atol=1e-5)
    again = refining.label_coefficients(batch.alpha, crop)  # neither refined nor solved again
    torch.testing.assert_close(again.alpha, batch.alpha, rtol=0, atol=0)


def test_refined_batches_are_their_faces(refining: FaceLabeler, astronaut: np.ndarray) -> None:
    images = [astronaut, np.ascontiguousarray(astronaut[:, ::-1])]
    for faces, image in zip(refining(images), images, strict=True):
        assert_same(faces[0], refining([image])[0][0], atol=1e-3)


def test_solved_light_is_that_of_the_photograph(
    small_bundle: AssetBundle, astronaut: np.ndarray
) -> None:
    def error(lighting: str) -> float:
        outputs = Outputs(renders=("face",))
        [[face]] = FaceLabeler(small_bundle, lighting=lighting, outputs=outputs)([astronaut])
        drawn, crop = face.renders["face"], crop_image(astronaut, face.crop)
        skin = face.seg_visible == 8
        return float(np.abs(drawn[skin].astype(float) - crop[skin]).mean())

    assert error("solve") < 0.8 * error("network")


def test_points_to_refine_by_must_be_there(small_bundle: AssetBundle) -> None:
    with pytest.raises(UserError, match="choose a detector"):
        FaceLabeler(small_bundle, detector="none", refine="points")
    declaring = AssetBundle(small_bundle.path, {**small_bundle.manifest, "refine": "points"})
    assert FaceLabeler(declaring).refiner is not None
    assert FaceLabeler(declaring, refine="none").refiner is None
    assert FaceLabeler(declaring, detector="none").refiner is None


def test_crops_without_points_are_not_refined(
    refining: FaceLabeler, small_bundle: AssetBundle
) -> None:
    crops = torch.rand(2, 3, 224, 224, generator=torch.manual_seed(0))
    plain = FaceLabeler(small_bundle, lighting="solve").label_crops(crops)
    torch.testing.assert_close(refining.label_crops(crops).alpha, plain.alpha, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="points5 must be"):
        refining.label_crops(crops, torch.zeros(1, 5, 2))


def test_bad_crops(crop_labeler: FaceLabeler) -> None:
    with pytest.raises(ValueError, match="float32"):
        crop_labeler.label_crops(torch.zeros(1, 224, 224, 3))
    with pytest.raises(ValueError, match="finite"):
        crop_labeler.label_coefficients(torch.full((1, crop_labeler.sizes.total), float("nan")))


def test_an_extracted_texture_needs_the_photograph(labeler: FaceLabeler) -> None:
    with pytest.raises(ValueError, match="crops"):
        labeler.label_coefficients(torch.zeros(1, labeler.sizes.total))


def test_unknown_choices(small_bundle: AssetBundle) -> None:
    with pytest.raises(UserError, match="most"):
        FaceLabeler(small_bundle, detector="mtcnn", backbone="mbnetv3", faces="most")
    with pytest.raises(UserError, match="resnet50"):
        FaceLabeler(small_bundle, detector="mtcnn", backbone="resnet50")
    with pytest.raises(UserError, match="retinaface"):
        FaceLabeler(small_bundle, detector="retinaface", backbone="mbnetv3")
    with pytest.raises(UserError, match="refine"):
        FaceLabeler(small_bundle, refine="edges")
    with pytest.raises(UserError, match="lighting"):
        FaceLabeler(small_bundle, lighting="sun")
    with pytest.raises(UserError, match="batch"):
        FaceLabeler(small_bundle, detector="none", backbone="mbnetv3", batch=0)
    with pytest.raises(UserError, match="landmarks"):
        Outputs(landmarks=("70",))


def test_devices() -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(UserError, match="toaster"):
        choose_device("toaster")
    if not torch.cuda.is_available():
        with pytest.raises(UnavailableError, match="--device cpu"):
            choose_device("cuda")
