"""Writers of mesh files: arrays in, bytes out. Arguments are checked by :mod:`.mesh`, not here.

These replace trimesh's writers because a run may write millions of meshes: for 35,709 vertices with
colours OBJ, PLY and GLB take 6, 1 and 2 ms, trimesh's 170, 1.3 and 4, and trimesh rounds an OBJ to
eight decimals. The tests read every file back through trimesh.
"""

from __future__ import annotations

import json
import struct
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tddfa3.drawing.number_text import number_lines

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Text = NDArray[np.uint8]  # ASCII codes; zeros are removed at the end

_TEXTURE_TYPES = {"jpg": "image/jpeg", "png": "image/png"}

# Four digits at a time by table: "0042", and "42" after two zeros that are removed at the end.
_PADDED = np.frombuffer(b"".join(b"%04d" % i for i in range(10_000)), np.uint32)
_UNPADDED = np.frombuffer(b"".join((b"%d" % i).rjust(4, b"\0") for i in range(10_000)), np.uint32)


# ---------------------------------------------------------------- OBJ


def obj(vertices: Floats, triangles: Ints, colors: Floats | None) -> bytes:
    """OBJ with one ``v x y z r g b`` (or ``v x y z``) per vertex and ``f a b c`` from 1."""
    values = vertices if colors is None else np.concatenate([vertices, colors], axis=1)
    return number_lines(b"v", values) + _face_lines(triangles.tobytes())


def textured_obj(vertices: Floats, triangles: Ints, uv: Floats, material_file: str) -> bytes:
    """OBJ with one ``vt`` per vertex, referring to a material file (see :func:`material`)."""
    head = f"mtllib {material_file}\nusemtl face\n".encode()
    body = number_lines(b"v", vertices) + number_lines(b"vt", uv)
    return head + body + _textured_face_lines(triangles.tobytes())


def material(image_file: str) -> bytes:
    """The MTL file of a textured OBJ: the image as diffuse colour, no highlights."""
    lines = ["newmtl face", "Ka 0 0 0", "Kd 1 1 1", "Ks 0 0 0", "illum 1", f"map_Kd {image_file}"]
    return ("\n".join(lines) + "\n").encode()


@lru_cache(maxsize=4)
def _face_lines(triangles: bytes) -> bytes:
    """``f a b c`` lines; cached, since all faces of a run share one topology."""
    corners = _integer_text(np.frombuffer(triangles, np.int32).reshape(-1, 3) + 1)
    return _joined_columns(b"f", [b" ", corners[:, 0], b" ", corners[:, 1], b" ", corners[:, 2]])


@lru_cache(maxsize=4)
def _textured_face_lines(triangles: bytes) -> bytes:
    """``f a/a b/b c/c`` lines: a vertex and its texture coordinate have the same number."""
    corners = _integer_text(np.frombuffer(triangles, np.int32).reshape(-1, 3) + 1)
    columns: list[bytes | Text] = []
    for corner in range(3):
        columns += [b" ", corners[:, corner], b"/", corners[:, corner]]
    return _joined_columns(b"f", columns)


def _integer_text(numbers: Ints) -> Text:
    """Digits (..., 8) of integers (...), 0..99,999,999."""
    high, low = np.divmod(numbers, 10_000)
    text = np.zeros((*numbers.shape, 8), np.uint8)
    text[..., :4] = np.where(high[..., None] > 0, _digits(_UNPADDED, high), 0)
    text[..., 4:] = np.where(high[..., None] > 0, _digits(_PADDED, low), _digits(_UNPADDED, low))
    return text


def _joined_columns(word: bytes, columns: list[bytes | Text]) -> bytes:
    rows = next(len(c) for c in columns if not isinstance(c, bytes))
    spread = [
        np.broadcast_to(np.frombuffer(c, np.uint8), (rows, len(c))) if isinstance(c, bytes) else c
        for c in [word, *columns, b"\n"]
    ]
    return np.concatenate(spread, axis=1).tobytes().translate(None, b"\0")


def _digits(table: NDArray[np.uint32], numbers: NDArray[Any]) -> Text:
    return table[numbers].view(np.uint8).reshape(*numbers.shape, 4)


# ---------------------------------------------------------------- PLY


def ply(vertices: Floats, triangles: Ints, colors: Floats | None) -> bytes:
    """Binary little endian PLY, colours as uchar."""
    fields: list[tuple[str, str, tuple[int, ...]]] = [("position", "<f4", (3,))]
    properties = ["property float x", "property float y", "property float z"]
    if colors is not None:
        fields.append(("color", "u1", (3,)))
        properties += ["property uchar red", "property uchar green", "property uchar blue"]
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(vertices)}",
        *properties,
        f"element face {len(triangles)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    points = np.empty(len(vertices), np.dtype(fields))
    points["position"] = vertices
    if colors is not None:
        points["color"] = color_bytes(colors)
    faces = np.empty(len(triangles), np.dtype([("count", "u1"), ("corners", "<i4", (3,))]))
    faces["count"] = 3
    faces["corners"] = triangles
    return ("\n".join(header) + "\n").encode() + points.tobytes() + faces.tobytes()


def color_bytes(colors: Floats) -> NDArray[np.uint8]:
    """Colours 0..1 rounded to uint8 0..255; out-of-range values are clipped."""
    return np.rint(np.clip(colors, 0, 1) * 255).astype(np.uint8)


# ---------------------------------------------------------------- GLB

_FLOAT, _UNSIGNED_INT, _UNSIGNED_BYTE = 5126, 5125, 5121
_VERTEX_BUFFER, _INDEX_BUFFER = 34962, 34963
_CLAMP_TO_EDGE, _LINEAR, _MIPMAPS = 33071, 9729, 9987


def glb(
    vertices: Floats,
    triangles: Ints,
    *,
    colors: Floats | None = None,
    uv: Floats | None = None,
    image: bytes | None = None,
    image_format: str = "jpg",
) -> bytes:
    """Binary glTF 2.0 with vertex colours, or with an embedded texture image.

    Vertex colours are stored as trimesh stores them: display values as bytes and no material, with
    which trimesh would not read them back as the mesh's colours. A viewer that takes glTF's COLOR_0
    as linear light shows them brighter. A texture has no such ambiguity; it already contains the
    light it was photographed in, so its material is marked unlit.

    Args:
        vertices: float32 (V, 3).
        triangles: int32 (T, 3).
        colors: float32 (V, 3) RGB 0..1, or None.
        uv: float32 (V, 2), v up; used together with ``image``.
        image: an encoded picture, or None.
        image_format: of ``image``, "jpg" or "png".

    Returns:
        the file's content.
    """
    pack = _GltfBuffer()
    attributes = {"POSITION": pack.accessor(vertices, _FLOAT, "VEC3", _VERTEX_BUFFER, bounds=True)}
    primitive: dict[str, Any] = {"attributes": attributes}
    document: dict[str, Any] = {}
    if colors is not None:
        # Four channels, because the format aligns every vertex to 4 bytes.
        rgba = np.full((len(colors), 4), 255, np.uint8)
        rgba[:, :3] = color_bytes(colors)
        attributes["COLOR_0"] = pack.accessor(
            rgba, _UNSIGNED_BYTE, "VEC4", _VERTEX_BUFFER, normalized=True
        )
    if uv is not None and image is not None:
        # glTF counts v downwards from the image's top.
        top_down = np.stack([uv[:, 0], 1 - uv[:, 1]], axis=1).astype(np.float32)
        attributes["TEXCOORD_0"] = pack.accessor(top_down, _FLOAT, "VEC2", _VERTEX_BUFFER)
        document = _textured_material(pack.view(image), _TEXTURE_TYPES[image_format])
        primitive["material"] = 0
    primitive["indices"] = pack.accessor(
        triangles.reshape(-1).astype(np.uint32), _UNSIGNED_INT, "SCALAR", _INDEX_BUFFER
    )
    document |= {
        "asset": {"version": "2.0", "generator": "tddfa3"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "face"}],
        "meshes": [{"primitives": [primitive]}],
    }
    return pack.file(document)


def _textured_material(image_view: int, mime_type: str) -> dict[str, Any]:
    sampler = {
        "magFilter": _LINEAR,
        "minFilter": _MIPMAPS,
        "wrapS": _CLAMP_TO_EDGE,
        "wrapT": _CLAMP_TO_EDGE,
    }
    surface = {"baseColorTexture": {"index": 0}, "metallicFactor": 0.0, "roughnessFactor": 1.0}
    material = {
        "pbrMetallicRoughness": surface,
        "extensions": {"KHR_materials_unlit": {}},
        "doubleSided": True,
    }
    return {
        "extensionsUsed": ["KHR_materials_unlit"],
        "materials": [material],
        "textures": [{"sampler": 0, "source": 0}],
        "samplers": [sampler],
        "images": [{"bufferView": image_view, "mimeType": mime_type}],
    }


class _GltfBuffer:
    """Collects a GLB file's binary chunk and the tables of the JSON chunk that point into it."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.length = 0
        self.views: list[dict[str, int]] = []
        self.accessors: list[dict[str, Any]] = []

    def view(self, data: bytes, target: int | None = None) -> int:
        view = {"buffer": 0, "byteOffset": self.length, "byteLength": len(data)}
        if target is not None:
            view["target"] = target
        padding = -len(data) % 4
        self.parts += [data, bytes(padding)]
        self.length += len(data) + padding
        self.views.append(view)
        return len(self.views) - 1

    def accessor(
        self,
        array: NDArray[Any],
        component: int,
        kind: str,
        target: int,
        *,
        normalized: bool = False,
        bounds: bool = False,
    ) -> int:
        entry: dict[str, Any] = {
            "bufferView": self.view(array.tobytes(), target),
            "componentType": component,
            "count": len(array),
            "type": kind,
        }
        if normalized:
            entry["normalized"] = True
        if bounds:
            entry |= {"min": array.min(axis=0).tolist(), "max": array.max(axis=0).tolist()}
        self.accessors.append(entry)
        return len(self.accessors) - 1

    def file(self, document: dict[str, Any]) -> bytes:
        document = document | {
            "buffers": [{"byteLength": self.length}],
            "bufferViews": self.views,
            "accessors": self.accessors,
        }
        text = json.dumps(document, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text
        chunks += struct.pack("<I4s", self.length, b"BIN\0") + b"".join(self.parts)
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


# ---------------------------------------------------------------- images


def encode_image(image: NDArray[np.uint8], image_format: str, quality: int) -> bytes:
    """Encodes a picture, uint8 (H, W, 3) RGB, as JPEG or PNG.

    Raises:
        ValueError: If ``image_format`` is neither "jpg" nor "png".
    """
    if image_format not in _TEXTURE_TYPES:
        raise ValueError(f"unknown texture format {image_format!r}: one of jpg, png")
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if image_format == "jpg" else []
    _, data = cv2.imencode(f".{image_format}", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    return data.tobytes()
