"""Files beside the rows: what is made for an image, under which names, and whose row names it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data

from jobs.pipeline.label.objects import ObjectFile, encode_image, image_files
from jobs.pipeline.record.config import LabelConfig
from jobs.pipeline.record.layout import Layout
from tddfa3.assets.bundle import AssetBundle
from tddfa3.drawing.draw import sheet
from tddfa3.face import Face
from tddfa3.labeler import FaceLabeler
from tddfa3.outputs import Outputs

STEM = Layout().stem("a/b.tar", "../one two")


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.ascontiguousarray(skimage.data.astronaut())


@pytest.fixture(scope="module")
def faces(small_bundle: AssetBundle, photo: np.ndarray) -> list[Face]:
    """The same face twice, as if there were two."""
    outputs = Outputs(
        meshes=("pca", "extracted"),
        textures=("extracted",),
        texture_size=64,
        renders=("face", "shape"),
    )
    labeler = FaceLabeler(small_bundle, detector="mtcnn", backbone="mbnetv3", outputs=outputs)
    [[first]], [[second]] = labeler([photo]), labeler([photo])
    second.face_index = 1
    return [first, second]


def files(
    faces: list[Face], photo: np.ndarray, **options: Any
) -> list[tuple[list[int], ObjectFile]]:
    made = image_files(LabelConfig(**options), STEM, photo, faces, ())
    return [(list(rows), file) for rows, file in made]


def test_nothing_is_made_unless_asked_for(faces: list[Face], photo: np.ndarray) -> None:
    for face in faces:
        bare = [f for f in files([face], photo) if not f[1].column.startswith("mesh")]
        assert bare == []


def test_an_overlay_shows_all_faces_and_every_row_names_it(
    faces: list[Face], photo: np.ndarray
) -> None:
    [(rows, file)] = [f for f in files(faces, photo, overlays="jpg") if f[1].column == "overlay"]
    assert rows == [0, 1]
    assert file.rel == "overlays/a/b.tar/~2E.~2Fone~20two.jpg"
    picture = cv2.imdecode(np.frombuffer(file.encode(), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == photo.shape


def test_a_sheet_is_titled_with_the_assets_names_of_parts(
    faces: list[Face], photo: np.ndarray, small_bundle: AssetBundle
) -> None:
    config, names = LabelConfig(overlays="sheet"), small_bundle.face_model().part_names
    of_assets, numbered = (
        [file for _, file in image_files(config, STEM, photo, faces[:1], given)][-1].encode()
        for given in (names, ())
    )
    assert of_assets != numbered
    expected = sheet(photo, faces[0], part_names=names)
    assert of_assets == encode_image(expected, "jpg")


def test_a_sheet_belongs_to_one_face(faces: list[Face], photo: np.ndarray) -> None:
    sheets = [f for f in files(faces, photo, overlays="sheet") if f[1].column == "overlay"]
    assert [(rows, file.rel[-6:]) for rows, file in sheets] == [([0], "_0.jpg"), ([1], "_1.jpg")]
    picture = cv2.imdecode(np.frombuffer(sheets[0][1].encode(), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[0] == picture.shape[1] > photo.shape[0]


@pytest.mark.parametrize("fmt", ["jpg", "png", "webp"])
def test_textures(faces: list[Face], photo: np.ndarray, fmt: str) -> None:
    made = [f for f in files(faces, photo, textures=fmt) if f[1].column == "texture"]
    assert [rows for rows, _ in made] == [[0], [1]]
    texture = cv2.imdecode(np.frombuffer(made[0][1].encode(), np.uint8), cv2.IMREAD_COLOR)
    assert texture.shape == (64, 64, 3)


def test_both_meshes_have_names_of_their_own(faces: list[Face], photo: np.ndarray) -> None:
    made = files(faces, photo, meshes="both", mesh_format="obj")
    names = [file.rel for _, file in made if file.column.startswith("mesh")]
    assert len(set(names)) == 4
    assert all(name.startswith("meshes/a/b.tar/") and name.endswith(".obj") for name in names)
    assert made[0][1].encode().startswith(b"#") or made[0][1].encode().startswith(b"v ")
