"""Everything that the library offers, with the bundle that comes with it, and nothing named."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch

from tddfa3.assets.bundle import AssetBundle
from tddfa3.drawing.draw import overlay, sheet
from tddfa3.drawing.mesh import encode_mesh
from tddfa3.drawing.sample import rendered_faces
from tddfa3.face import Face
from tddfa3.from_row import FaceNumbers, FaceRebuilder
from tddfa3.images.rle import decode_rle
from tddfa3.labeler import FaceLabeler
from tddfa3.networks.backbones import build_backbone
from tddfa3.networks.engine import Engine
from tddfa3.outputs import Outputs

EVERYTHING = Outputs(
    masks=("seg", "seg_visible", "rle"),
    meshes=("pca", "extracted"),
    mesh_frame="model",
    textures=("pca", "extracted"),
    texture_size=256,
    renders=("face", "shape", "depth", "normals"),
)


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return np.ascontiguousarray(skimage.data.astronaut())


@pytest.fixture(scope="module")
def labeler(open_bundle: AssetBundle) -> FaceLabeler:
    return FaceLabeler(open_bundle, outputs=EVERYTHING)


@pytest.fixture(scope="module")
def face(labeler: FaceLabeler, astronaut: np.ndarray) -> Face:
    [[face]] = labeler([astronaut])
    return face


def test_all_landmark_sets(face: Face, open_bundle: AssetBundle) -> None:
    counts = {name: len(points) for name, points in face.landmarks.items()}
    assert counts == {"68": 68, "106": 106, "106_2d": 106, "134": 134}
    for name, points in face.landmarks.items():
        assert np.isfinite(points).all()
        assert face.landmarks_visible[name].shape == (len(points),)
    # The meaning of a point is that of its number: the same face in every set.
    ldm68, ldm106 = face.landmarks["68"], face.landmarks["106"]
    size = np.linalg.norm(ldm68[45] - ldm68[36])
    for in_68, in_106 in ((8, 16), (30, 54), (48, 84), (54, 90)):
        assert np.linalg.norm(ldm68[in_68] - ldm106[in_106]) < 0.1 * size
    assert open_bundle.manifest["landmarks"] == {"68": 68, "106": 106, "134": 134}


def test_the_camera_projects_the_mesh_onto_the_landmarks(
    face: Face, open_bundle: AssetBundle
) -> None:
    vertices = face.meshes["pca"].vertices
    assert vertices.shape == (open_bundle.manifest["topology"]["vertices"], 3)
    for name in ("68", "106", "134"):
        pixels = face.camera.project(vertices[open_bundle.face_model().landmarks[name]])
        np.testing.assert_allclose(pixels, face.landmarks[name], rtol=0, atol=0.01)


def test_masks(face: Face, labeler: FaceLabeler, astronaut: np.ndarray) -> None:
    assert face.seg is not None
    assert face.seg_visible is not None
    assert face.masks_rle is not None
    assert set(np.unique(face.seg_visible)) == set(range(9))
    for i, name in enumerate(labeler.part_names):
        on_photo = face.crop.labels_to_image(face.seg_visible) == i + 1
        np.testing.assert_array_equal(decode_rle(face.masks_rle[name]), on_photo)
        assert (face.seg >> i & 1).any()
    assert face.crop.labels_to_image(face.seg_visible).shape == astronaut.shape[:2]


def test_textures_renders_and_meshes(face: Face) -> None:
    assert {name: t.shape for name, t in face.textures.items()} == {
        "pca": (256, 256, 3),
        "extracted": (256, 256, 3),
    }
    covered = np.asarray(face.renders["depth"][..., 0], np.float32) > 0
    assert covered.mean() == pytest.approx(face.quality_coverage, abs=0.02)
    assert 8 < face.renders["depth"][covered].mean() < 12
    for name in ("face", "shape"):
        assert face.renders[name][covered].mean() > 20
    for kind in ("obj", "ply", "glb"):
        for mesh in face.meshes.values():
            assert len(encode_mesh(mesh, kind)) > 100_000


def test_pictures(face: Face, labeler: FaceLabeler, astronaut: np.ndarray) -> None:
    assert overlay(astronaut, [face]).shape == astronaut.shape
    assert sheet(astronaut, face, part_names=labeler.part_names).ndim == 3


def test_again_from_its_numbers(
    face: Face, open_bundle: AssetBundle, astronaut: np.ndarray
) -> None:
    numbers = FaceNumbers(
        np.concatenate(list(face.coefficients.values())),
        face.crop,
        box=face.box,
        score=face.score,
        points5=face.points5,
    )
    [again] = FaceRebuilder(open_bundle, EVERYTHING)([numbers], [astronaut])
    for name, points in face.landmarks.items():
        np.testing.assert_allclose(again.landmarks[name], points, rtol=0, atol=1e-3)
    for name, mesh in face.meshes.items():
        np.testing.assert_allclose(again.meshes[name].vertices, mesh.vertices, rtol=0, atol=1e-5)
    assert (again.seg_visible != face.seg_visible).mean() < 0.001
    # Light is part of the numbers: it is not solved a second time.
    difference = np.abs(again.textures["pca"].astype(int) - face.textures["pca"])
    assert difference.max() <= 1
    assert again.quality_points == pytest.approx(face.quality_points, abs=1e-4)


@pytest.mark.parametrize("batch", [0, 1, 5])
def test_onnx_is_torch(open_bundle: AssetBundle, batch: int) -> None:
    crops = torch.rand(batch, 3, 224, 224, generator=torch.Generator().manual_seed(batch))
    networks = [
        build_backbone("auto", open_bundle, "cpu", Engine(name)) for name in ("onnx", "torch")
    ]
    found, expected = (network(crops) for network in networks)
    assert found.shape == (batch, open_bundle.sizes.total)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_batches_are_their_faces(open_bundle: AssetBundle) -> None:
    faces = rendered_faces(open_bundle, 3, seed=2)
    labeler = FaceLabeler(open_bundle, faces="all", refine="points")
    for together, picture in zip(labeler(faces), faces, strict=True):
        [alone] = labeler([picture])
        for a, b in zip(together, alone, strict=True):
            for name in ("68", "106_2d", "134"):
                np.testing.assert_allclose(a.landmarks[name], b.landmarks[name], rtol=0, atol=0.01)


def test_it_refines_unless_told_not_to(
    open_bundle: AssetBundle, face: Face, astronaut: np.ndarray
) -> None:
    [[plain]] = FaceLabeler(open_bundle, refine="none")([astronaut])
    assert plain.quality_points is not None
    assert face.quality_points is not None
    assert face.quality_points < max(0.05, plain.quality_points)
    assert not np.array_equal(face.coefficients["angle"], plain.coefficients["angle"])


def test_no_photograph_no_face(labeler: FaceLabeler) -> None:
    assert labeler([]) == []
    assert labeler([np.full((90, 120, 3), 127, np.uint8)]) == [[]]
