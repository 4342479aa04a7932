"""Meshes: every file reads back exactly, through trimesh and through plain parsing by hand."""

from __future__ import annotations

import io
import json
import re
import struct
import subprocess
import sys
from typing import Any

import cv2
import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray

from tddfa3.drawing.mesh import (
    MESH_FORMATS,
    FaceMesh,
    encode_mesh,
    encode_textured_obj,
    mesh_in_crop_frame,
)

AWKWARD = [0.0, -0.0, 1.0, -1.0, 9.9999999, 0.1, 1 / 3, 1e-3, -7e-5, 1.2e-38, -3.4e38, 9999.9995]


def make_mesh(seed: int = 0, *, textured: bool = False) -> FaceMesh:
    rng = np.random.default_rng(seed)
    n = 501
    vertices = rng.normal(size=(n, 3)).astype(np.float32)
    vertices.flat[: len(AWKWARD)] = AWKWARD
    return FaceMesh(
        vertices=vertices,
        # Every vertex in some triangle: trimesh drops the others of an OBJ.
        triangles=np.concatenate([rng.permutation(n - n % 3), rng.integers(0, n, 1002)]).reshape(
            -1, 3
        ),
        colors=rng.random((n, 3), np.float32),
        uv=rng.random((n, 2), np.float32) if textured else None,
        texture=smooth_picture(rng) if textured else None,
    )


def smooth_picture(rng: np.random.Generator) -> NDArray[np.uint8]:
    return cv2.resize(rng.integers(0, 256, (8, 8, 3), np.uint8), (64, 64)).astype(np.uint8)


def load(data: bytes, fmt: str) -> Any:
    return trimesh.load(io.BytesIO(data), file_type=fmt, process=False, force="mesh")


class TestToTrimesh:
    def test_vertex_colours_are_those_of_the_files(self) -> None:
        mesh = make_mesh()
        made = mesh.to_trimesh()
        np.testing.assert_array_equal(made.vertices, mesh.vertices)
        np.testing.assert_array_equal(made.faces, mesh.triangles)
        written: Any = load(encode_mesh(mesh, "ply"), "ply")
        np.testing.assert_array_equal(made.visual.vertex_colors, written.visual.vertex_colors)

    def test_a_texture_goes_with_the_mesh(self) -> None:
        mesh = make_mesh(textured=True)
        made = mesh.to_trimesh()
        np.testing.assert_array_equal(made.visual.uv, mesh.uv)
        np.testing.assert_array_equal(np.asarray(made.visual.material.image), mesh.texture)
        data: Any = made.export(file_type="glb")
        again: Any = load(data, "glb")
        texture = again.visual.material.baseColorTexture
        np.testing.assert_array_equal(np.asarray(texture.convert("RGB")), mesh.texture)

    def test_a_mesh_without_colours(self) -> None:
        mesh = make_mesh()
        made = FaceMesh(mesh.vertices, mesh.triangles).to_trimesh()
        assert not made.visual.defined

    def test_it_is_imported_when_asked_for(self) -> None:
        code = "import sys, tddfa3.labeler; print('trimesh' in sys.modules)"
        told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        assert told.stdout.strip() == b"False"


def obj_columns(text: str, word: str) -> list[list[str]]:
    rows = [line.split(" ") for line in text.splitlines()]
    return [row[1:] for row in rows if row[0] == word]


def parse_glb(data: bytes) -> tuple[dict[str, Any], bytes]:
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    json_length, json_kind = struct.unpack_from("<I4s", data, 12)
    start = 20 + json_length
    binary_length, binary_kind = struct.unpack_from("<I4s", data, start)
    assert (json_kind, binary_kind) == (b"JSON", b"BIN\0")
    assert json_length % 4 == binary_length % 4 == 0
    assert start + 8 + binary_length == len(data)
    return json.loads(data[20:start]), data[start + 8 :]


def glb_array(document: dict[str, Any], binary: bytes, accessor: int) -> NDArray[Any]:
    entry = document["accessors"][accessor]
    dtype = {5126: "<f4", 5125: "<u4", 5121: "u1"}[entry["componentType"]]
    width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}[entry["type"]]
    view = document["bufferViews"][entry["bufferView"]]
    assert view["byteOffset"] % 4 == 0
    array = np.frombuffer(binary, dtype, entry["count"] * width, view["byteOffset"])
    assert array.nbytes == view["byteLength"]
    return array.reshape(-1, width)


class TestObj:
    def test_trimesh_reads_it_back_exactly(self) -> None:
        mesh = make_mesh()
        read = load(encode_mesh(mesh, "obj"), "obj")
        assert np.array_equal(read.vertices.astype(np.float32), mesh.vertices)
        assert np.array_equal(read.faces, mesh.triangles)
        assert mesh.colors is not None
        assert np.abs(read.visual.vertex_colors[:, :3] / 255 - mesh.colors).max() <= 0.51 / 255

    def test_every_float_reads_back_exactly(self) -> None:
        mesh = make_mesh()
        text = encode_mesh(mesh, "obj").decode("ascii")
        numbers = np.array(obj_columns(text, "v"), np.float64).astype(np.float32)
        assert mesh.colors is not None
        expected = np.concatenate([mesh.vertices, mesh.colors], axis=1)
        assert np.array_equal(numbers.view(np.uint32), expected.view(np.uint32))  # also -0.0
        faces = np.array(obj_columns(text, "f"), np.int64)
        assert np.array_equal(faces - 1, mesh.triangles)

    @pytest.mark.parametrize("exponent", range(-40, 39, 6))
    def test_floats_of_every_magnitude(self, exponent: int) -> None:
        rng = np.random.default_rng(exponent + 50)
        vertices = rng.uniform(-10, 10, (200, 3)) * 10.0**exponent
        mesh = FaceMesh(
            np.clip(vertices, -3.4e38, 3.4e38).astype(np.float32), np.array([[0, 1, 2]])
        )
        text = encode_mesh(mesh, "obj").decode("ascii")
        numbers = np.array(obj_columns(text, "v"), np.float64).astype(np.float32)
        assert np.array_equal(numbers, mesh.vertices)

    def test_layout_is_upstreams(self) -> None:
        mesh = FaceMesh(
            np.array([[0.5, -0.25, 2], [1, 0, 0], [0, 1, 0]], np.float32),
            np.array([[0, 1, 2]]),
            colors=np.array([[1, 0.5, 0.0]] * 3, np.float32),
        )
        lines = encode_mesh(mesh, "obj").decode("ascii").splitlines()
        number = r"-?\d+\.\d+"
        assert all(re.fullmatch(rf"v( {number}){{6}}", line) for line in lines[:3])
        assert lines[3:] == ["f 1 2 3"]
        assert [float(x) for x in lines[0].split()[1:]] == [0.5, -0.25, 2, 1, 0.5, 0]

    def test_face_numbers_of_every_length(self) -> None:
        n = 123_456
        wanted = np.array([[0, 8, 9], [98, 99, 998], [999, 9998, 9999], [10_000, 99_999, n - 1]])
        mesh = FaceMesh(np.zeros((n, 3), np.float32), wanted)
        text = encode_mesh(mesh, "obj").decode("ascii")
        assert obj_columns(text, "f") == [[str(i + 1) for i in row] for row in wanted]

    def test_without_colors_a_vertex_has_three_numbers(self) -> None:
        mesh = FaceMesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]]))
        text = encode_mesh(mesh, "obj").decode("ascii")
        assert [len(row) for row in obj_columns(text, "v")] == [3, 3, 3]

    def test_meshes_of_different_topology_do_not_share_faces(self) -> None:
        vertices = np.eye(3, dtype=np.float32)
        first = encode_mesh(FaceMesh(vertices, np.array([[0, 1, 2]])), "obj")
        second = encode_mesh(FaceMesh(vertices, np.array([[2, 1, 0]])), "obj")
        assert first.endswith(b"f 1 2 3\n")
        assert second.endswith(b"f 3 2 1\n")


class TestTexturedObj:
    @pytest.mark.parametrize("image_format", ["jpg", "png"])
    def test_trimesh_finds_the_texture(self, image_format: Any, tmp_path: Any) -> None:
        mesh = make_mesh(textured=True)
        files = encode_textured_obj(mesh, "face_0", image_format=image_format)
        assert set(files) == {"face_0.obj", "face_0.mtl", f"face_0.{image_format}"}
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
        read: Any = trimesh.load(tmp_path / "face_0.obj", process=False, force="mesh")
        assert np.array_equal(read.vertices.astype(np.float32), mesh.vertices)
        assert np.array_equal(read.faces, mesh.triangles)
        assert mesh.uv is not None
        assert np.array_equal(read.visual.uv.astype(np.float32), mesh.uv)
        picture = np.asarray(read.visual.material.image.convert("RGB"))
        check_picture(picture, mesh, image_format)

    def test_corners_name_vertex_and_texture_coordinate(self) -> None:
        mesh = make_mesh(textured=True)
        text = encode_textured_obj(mesh, "a")["a.obj"].decode("ascii")
        corners = [[c.split("/") for c in row] for row in obj_columns(text, "f")]
        assert np.array_equal(np.array(corners, int) - 1, mesh.triangles[..., None].repeat(2, -1))
        assert mesh.uv is not None
        uv = np.array(obj_columns(text, "vt"), np.float64).astype(np.float32)
        assert np.array_equal(uv, mesh.uv)

    @pytest.mark.parametrize("stem", ["", "a b", "../a", "a\nb"])
    def test_refuses_names_that_cannot_be_referred_to(self, stem: str) -> None:
        with pytest.raises(ValueError, match="stem"):
            encode_textured_obj(make_mesh(textured=True), stem)

    def test_needs_a_texture(self) -> None:
        with pytest.raises(ValueError, match="texture"):
            encode_textured_obj(make_mesh(), "a")


class TestPly:
    def test_trimesh_reads_it_back_exactly(self) -> None:
        mesh = make_mesh()
        read = load(encode_mesh(mesh, "ply"), "ply")
        assert np.array_equal(read.vertices.astype(np.float32), mesh.vertices)
        assert np.array_equal(read.faces, mesh.triangles)
        assert np.array_equal(read.visual.vertex_colors[:, :3], expected_bytes(mesh))

    def test_bytes_parsed_by_hand(self) -> None:
        mesh = make_mesh()
        header, _, body = encode_mesh(mesh, "ply").partition(b"end_header\n")
        assert header.startswith(b"ply\nformat binary_little_endian 1.0\n")
        n, t = len(mesh.vertices), len(mesh.triangles)
        assert f"element vertex {n}\n".encode() in header
        assert f"element face {t}\n".encode() in header
        points = np.frombuffer(body, np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)]), n)
        faces = np.frombuffer(
            body, np.dtype([("count", "u1"), ("corners", "<i4", 3)]), t, n * points.itemsize
        )
        assert len(body) == points.nbytes + faces.nbytes
        assert np.array_equal(points["xyz"], mesh.vertices)
        assert np.array_equal(points["rgb"], expected_bytes(mesh))
        assert (faces["count"] == 3).all()
        assert np.array_equal(faces["corners"], mesh.triangles)

    def test_without_colors(self) -> None:
        mesh = FaceMesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]]))
        data = encode_mesh(mesh, "ply")
        assert b"red" not in data
        assert np.array_equal(load(data, "ply").vertices, np.eye(3, dtype=np.float32))


class TestGlb:
    def test_trimesh_reads_it_back_exactly(self) -> None:
        mesh = make_mesh()
        read = load(encode_mesh(mesh, "glb"), "glb")
        assert np.array_equal(read.vertices.astype(np.float32), mesh.vertices)
        assert np.array_equal(read.faces, mesh.triangles)
        assert read.visual.kind == "vertex"
        assert np.array_equal(read.visual.vertex_colors[:, :3], expected_bytes(mesh))

    @pytest.mark.parametrize("image_format", ["jpg", "png"])
    def test_trimesh_reads_the_embedded_texture(self, image_format: Any) -> None:
        mesh = make_mesh(textured=True)
        read = load(encode_mesh(mesh, "glb", image_format=image_format), "glb")
        assert np.array_equal(read.vertices.astype(np.float32), mesh.vertices)
        assert np.array_equal(read.faces, mesh.triangles)
        assert np.abs(read.visual.uv - mesh.uv).max() < 1e-6
        picture = np.asarray(read.visual.material.baseColorTexture.convert("RGB"))
        check_picture(picture, mesh, image_format)

    @pytest.mark.parametrize("textured", [False, True])
    def test_bytes_parsed_by_hand(self, textured: bool) -> None:
        mesh = make_mesh(textured=textured)
        document, binary = parse_glb(encode_mesh(mesh, "glb", image_format="png"))
        assert document["buffers"] == [{"byteLength": len(binary)}]
        (primitive,) = document["meshes"][0]["primitives"]
        attributes = primitive["attributes"]
        positions = glb_array(document, binary, attributes["POSITION"])
        assert np.array_equal(positions, mesh.vertices)
        bounds = document["accessors"][attributes["POSITION"]]
        assert bounds["min"] == mesh.vertices.min(axis=0).tolist()
        assert bounds["max"] == mesh.vertices.max(axis=0).tolist()
        indices = glb_array(document, binary, primitive["indices"])
        assert np.array_equal(indices.reshape(-1, 3), mesh.triangles)
        if not textured:
            colors = glb_array(document, binary, attributes["COLOR_0"])
            assert np.array_equal(colors[:, :3], expected_bytes(mesh))
            assert (colors[:, 3] == 255).all()
            return
        assert "COLOR_0" not in attributes  # it would be multiplied with the texture
        uv = glb_array(document, binary, attributes["TEXCOORD_0"])
        assert mesh.uv is not None
        assert np.abs(uv - [0, 1] - mesh.uv * [1, -1]).max() < 1e-6
        image = document["images"][0]
        view = document["bufferViews"][image["bufferView"]]
        data = binary[view["byteOffset"] :][: view["byteLength"]]
        assert image["mimeType"] == "image/png"
        picture: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        check_picture(picture[..., ::-1], mesh, "png")


class TestFaceMesh:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"vertices": np.zeros((4, 2))}, r"vertices must have shape \(V, 3\), not \(4, 2\)"),
            ({"vertices": np.zeros((0, 3))}, r"vertices \(0, 3\) is empty"),
            ({"vertices": np.full((4, 3), np.nan)}, "vertices .* NaN"),
            ({"vertices": np.full((4, 3), np.inf)}, "vertices .* infinity"),
            ({"triangles": np.zeros((2, 4), int)}, r"triangles .* not int64 \(2, 4\)"),
            ({"triangles": np.zeros((0, 3), int)}, r"triangles \(0, 3\) is empty"),
            ({"triangles": np.zeros((2, 3))}, "triangles must be integers"),
            ({"triangles": np.array([[0, 1, 4]])}, r"point at vertices 0\.\.4, but there are 4"),
            ({"triangles": np.array([[-1, 1, 2]])}, r"point at vertices -1\.\.2"),
            ({"colors": np.zeros((3, 3))}, r"colors must have shape \(4, 3\), not \(3, 3\)"),
            ({"uv": np.zeros((4, 3))}, r"uv must have shape \(4, 2\), not \(4, 3\)"),
            ({"texture": np.zeros((8, 8, 3), np.uint8)}, "a texture needs uv"),
            (
                {"uv": np.zeros((4, 2)), "texture": np.zeros((8, 8, 3))},
                r"texture must be uint8 .* not float64 \(8, 8, 3\)",
            ),
        ],
    )
    def test_bad_arrays_are_named(self, change: dict[str, Any], message: str) -> None:
        arrays = {"vertices": np.zeros((4, 3)), "triangles": np.array([[0, 1, 2]])} | change
        with pytest.raises(ValueError, match=message):
            FaceMesh(**arrays)

    def test_unknown_formats_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"'stl'.*obj, ply, glb"):
            encode_mesh(make_mesh(), "stl")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="'bmp'"):
            encode_mesh(make_mesh(textured=True), "glb", image_format="bmp")  # type: ignore[arg-type]

    @pytest.mark.parametrize("fmt", MESH_FORMATS)
    def test_files_depend_on_nothing_but_the_mesh(self, fmt: Any) -> None:
        assert encode_mesh(make_mesh(3), fmt) == encode_mesh(make_mesh(3), fmt)


def test_crop_frame_turns_distance_into_depth() -> None:
    camera = np.array([[[0.1, 0.2, 9.0], [0.0, -0.5, 10.5]]], np.float32)
    before = camera.copy()
    moved = mesh_in_crop_frame(camera)
    assert np.array_equal(moved, np.array([[[0.1, 0.2, 1.0], [0.0, -0.5, -0.5]]], np.float32))
    assert np.array_equal(camera, before)
    with pytest.raises(ValueError, match=r"camera .* \(4, 2\)"):
        mesh_in_crop_frame(np.zeros((4, 2)))


def expected_bytes(mesh: FaceMesh) -> NDArray[np.uint8]:
    assert mesh.colors is not None
    return np.rint(mesh.colors * 255).astype(np.uint8)


def check_picture(picture: NDArray[np.uint8], mesh: FaceMesh, image_format: str) -> None:
    assert mesh.texture is not None
    difference = np.abs(picture.astype(int) - mesh.texture)
    if image_format == "png":
        assert difference.max() == 0
    else:  # lossy; red and blue exchanged would differ by far more
        assert difference.mean() < 8
