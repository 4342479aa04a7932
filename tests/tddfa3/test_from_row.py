"""Rows give back the faces they came from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import skimage.data

from tddfa3.assets.bundle import AssetBundle
from tddfa3.errors import UserError
from tddfa3.face import Face
from tddfa3.from_row import FaceNumbers, FaceRebuilder
from tddfa3.labeler import FaceLabeler
from tddfa3.networks.engine import Engine
from tddfa3.outputs import Outputs

OUTPUTS = Outputs(
    masks=("seg", "seg_visible", "rle"), meshes=("pca", "extracted"), renders=("face", "depth")
)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.ascontiguousarray(skimage.data.astronaut())


@pytest.fixture(scope="module")
def face(small_bundle: AssetBundle, photo: np.ndarray) -> Face:
    labeler = FaceLabeler(small_bundle, detector="mtcnn", backbone="mbnetv3", outputs=OUTPUTS)
    [[face]] = labeler([photo])
    return face


@pytest.fixture(scope="module")
def rebuilder(small_bundle: AssetBundle) -> FaceRebuilder:
    return FaceRebuilder(small_bundle, OUTPUTS, batch=2)


def row_of(face: Face) -> dict[str, Any]:
    """As a Parquet reader gives it: plain lists."""
    coefficients = {f"coef_{name}": v.tolist() for name, v in face.coefficients.items()}
    return coefficients | {
        "crop_params": face.crop.params().tolist(),
        "face_index": face.face_index,
        "n_faces": face.n_faces,
        "box": face.box.tolist(),
        "score": face.score,
        "points5": face.points5.reshape(-1).tolist(),
    }


def test_the_same_face(face: Face, rebuilder: FaceRebuilder, photo: np.ndarray) -> None:
    numbers = FaceNumbers.from_row(row_of(face))
    faces = rebuilder([numbers] * 3, [photo] * 3)
    assert len(faces) == 3
    for again in faces:
        for name in ("pca", "extracted"):
            mesh, expected = again.meshes[name], face.meshes[name]
            np.testing.assert_allclose(mesh.vertices, expected.vertices, atol=1e-5)
            assert mesh.colors is not None
            assert expected.colors is not None
            np.testing.assert_allclose(mesh.colors, expected.colors, atol=1e-5)
            np.testing.assert_array_equal(mesh.triangles, expected.triangles)
        for name, points in face.landmarks.items():
            np.testing.assert_allclose(again.landmarks[name], points, atol=1e-3)
        np.testing.assert_array_equal(again.seg_visible, face.seg_visible)
        np.testing.assert_array_equal(again.seg, face.seg)
        assert again.masks_rle == face.masks_rle
        assert again.quality_points == pytest.approx(face.quality_points, abs=1e-5)
        np.testing.assert_allclose(again.camera.K, face.camera.K)
        np.testing.assert_allclose(again.box, face.box)


def test_a_photograph_is_needed_for_its_texture_only(
    face: Face, rebuilder: FaceRebuilder, small_bundle: AssetBundle
) -> None:
    numbers = FaceNumbers.from_row(row_of(face))
    with pytest.raises(ValueError, match="needs the crops"):
        rebuilder([numbers])
    plain = FaceRebuilder(small_bundle, Outputs(meshes=("pca",), mesh_frame="image"))
    [again] = plain([numbers])
    homogeneous = again.meshes["pca"].vertices @ face.camera.K.T
    points = homogeneous[:, :2] / homogeneous[:, 2:]
    vertices = small_bundle.face_model().landmarks["68"]
    np.testing.assert_allclose(points[vertices], face.landmarks["68"], atol=0.01)


def test_no_network_is_loaded(
    small_bundle: AssetBundle, face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(AssetBundle, "tensors", lambda _, file: read.append(file))
    monkeypatch.setattr(Engine, "network", lambda *_, **__: pytest.fail("a network was built"))
    without = AssetBundle(small_bundle.path, {**small_bundle.manifest, "backbones": {}})
    rebuild = FaceRebuilder(without, Outputs(meshes=("pca",)))
    [again] = rebuild([FaceNumbers.from_row(row_of(face))])
    np.testing.assert_array_equal(again.meshes["pca"].triangles, face.meshes["pca"].triangles)
    assert read == []


def test_no_faces(rebuilder: FaceRebuilder) -> None:
    assert rebuilder([]) == []


def test_a_sparse_row_is_enough(face: Face) -> None:
    row = {k: v for k, v in row_of(face).items() if k.startswith(("coef_", "crop_"))}
    numbers = FaceNumbers.from_row(row)
    assert (numbers.face_index, numbers.n_faces, numbers.points5) == (0, 1, None)


@pytest.mark.parametrize("column", ["coef_exp", "crop_params"])
def test_a_row_without_a_face(face: Face, column: str) -> None:
    for value in (None, [float("nan")] * 5):
        with pytest.raises(ValueError, match=column):
            FaceNumbers.from_row(row_of(face) | {column: value})


def test_batches_hold_a_face_at_least(small_bundle: AssetBundle) -> None:
    with pytest.raises(UserError, match="batch: 0"):
        FaceRebuilder(small_bundle, Outputs(), batch=0)


def test_another_face_model(face: Face, rebuilder: FaceRebuilder, photo: np.ndarray) -> None:
    numbers = FaceNumbers.from_row(row_of(face) | {"coef_id": [0.0] * 3})
    with pytest.raises(ValueError, match="alpha must have shape"):
        rebuilder([numbers], [photo])


def test_another_photograph(face: Face, rebuilder: FaceRebuilder, photo: np.ndarray) -> None:
    numbers = FaceNumbers.from_row(row_of(face))
    with pytest.raises(ValueError, match="image must be"):
        rebuilder([numbers], [photo[1:]])
    with pytest.raises(ValueError, match="as many images"):
        rebuilder([numbers, numbers], [photo])
