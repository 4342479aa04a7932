"""The columns of a part file: names, Arrow types, units and frames, as data.

One row is one face; an image without any has one row too. Documentation, file metadata and the
Arrow schema all come from :func:`columns`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from jobs.pipeline.engine import AssetFacts

FORMAT_VERSION = 1
METADATA_KEY = b"tddfa3"

OK_STATUSES = ("ok", "no_face")
IMAGE_FAILURES = ("decode_error", "unsupported", "too_large", "label_error", "crashed")
STATUSES = (*OK_STATUSES, *IMAGE_FAILURES, "shard_error")

DEFAULT_LANDMARKS = {"68": 68, "106": 106, "106_2d": 106, "134": 134}
OBJECT_COLUMNS = ("mesh_pca", "mesh_extracted", "texture", "overlay")


@dataclass(frozen=True, slots=True)
class Column:
    """``unit`` and ``frame`` are empty where there is none."""

    name: str
    type: pa.DataType
    description: str
    unit: str = ""
    frame: str = ""


@dataclass(frozen=True)
class LabelSchema:
    """The columns of one run, and what every part file says about itself."""

    facts: AssetFacts
    fingerprint: str
    versions: Mapping[str, str]

    @property
    def columns(self) -> tuple[Column, ...]:
        return columns(self.facts)

    def arrow(self, counts: Mapping[str, Any] | None = None) -> pa.Schema:
        """The Arrow schema with its file metadata; ``counts`` is what is said of one part."""
        fields = [pa.field(c.name, c.type) for c in self.columns]
        return pa.schema(fields, metadata=self._metadata(counts or {}))

    def _metadata(self, part: Mapping[str, Any]) -> dict[bytes, bytes]:
        about = {
            "format": FORMAT_VERSION,
            "plan": self.fingerprint,
            "versions": dict(self.versions),
            "assets": {
                "name": self.facts.name,
                "digest": self.facts.digest,
                "licence": self.facts.licence,
            },
            "parts": list(self.facts.part_names),
            "columns": {c.name: _described(c) for c in self.columns},
            **part,
        }
        features = {c.name: _feature(c.type) for c in self.columns}
        return {
            METADATA_KEY: json.dumps(about, sort_keys=True).encode(),
            b"huggingface": json.dumps({"info": {"features": features}}).encode(),
        }


def read_metadata(schema: pa.Schema) -> dict[str, Any]:
    """What a part file says about itself. Raises ValueError when it is not one of ours."""
    raw = (schema.metadata or {}).get(METADATA_KEY)
    if raw is None:
        raise ValueError("no tddfa3 metadata: not a part file of this program")
    about = json.loads(raw)
    if about.get("format") != FORMAT_VERSION:
        raise ValueError(f"part file of format {about.get('format')}, known is {FORMAT_VERSION}")
    return about


def columns(facts: AssetFacts) -> tuple[Column, ...]:
    """Every column, in file order; sizes of lists come from the assets."""
    return (*_image_columns(), *_face_columns(facts), *_object_columns())


def _image_columns() -> tuple[Column, ...]:
    text, whole = pa.string(), pa.int32()
    return (
        Column("image_id", text, "<shard>/<key>, unique in the run"),
        Column("shard", text, "shard the image came from, relative to INPUT"),
        Column("key", text, "name of the image in its shard"),
        Column("image_width", whole, "width after EXIF rotation", "px"),
        Column("image_height", whole, "height after EXIF rotation", "px"),
        Column("image_sha256", text, "SHA-256 of the encoded bytes, hexadecimal"),
        Column("status", text, "one of " + ", ".join(STATUSES)),
        Column("error", text, "why there are no labels, for a person"),
    )


def _face_columns(facts: AssetFacts) -> tuple[Column, ...]:
    small, real = pa.int16(), pa.float32()
    image = "image pixels"
    return (
        Column("n_faces", small, "faces found in the image"),
        Column("face_index", small, "rank of this face by score, 0 first"),
        Column("box", floats(4), "x0, y0, x1, y1 of the detected box", "px", image),
        Column("score", real, "the detector's score, 0..1"),
        Column(
            "points5",
            floats(10),
            "x, y of the viewer's left eye, right eye, nose tip, left and right mouth corner",
            "px",
            image,
        ),
        Column(
            "points106",
            floats(212),
            "x, y of the 106 points that the detector's own network saw",
            "px",
            image,
        ),
        Column(
            "crop_params",
            pa.list_(pa.float64(), 5),
            "w0, h0, s, tx, ty: the way between image and crop pixels (ty with y up)",
            "px, px, 1, px, px",
            image,
        ),
        *_coefficient_columns(facts),
        Column("camera_K", floats(9), "intrinsics, row-major", "px", image),
        Column("camera_R", floats(9), "rotation model to camera, row-major", "", "OpenCV axes"),
        Column("camera_t", floats(3), "translation model to camera", "model units", "OpenCV axes"),
        Column("yaw", real, "turn of the head; positive: the nose to the image's right", "deg"),
        Column("pitch", real, "nod of the head; positive: the nose goes down", "deg"),
        Column("roll", real, "tilt of the head; positive: counter-clockwise as seen", "deg"),
        *_landmark_columns(facts),
        Column(
            "seg_visible",
            pa.binary(),
            "PNG of the 224 crop: 0 background, 1.. the visible part, a later part wins",
            "",
            "crop pixels",
        ),
        Column(
            "seg",
            pa.binary(),
            "PNG of the 224 crop: bit i set where part i lies, occlusion ignored",
            "",
            "crop pixels",
        ),
        Column("masks_rle", pa.string(), "JSON: COCO RLE of every visible part", "px", image),
        Column(
            "quality_points",
            real,
            "mean distance of the detector's five points to the projected landmarks",
            "inter-ocular distances",
        ),
        Column(
            "quality_points106",
            real,
            "the same over the detector's 106 points, where it gives them",
            "inter-ocular distances",
        ),
        Column("quality_visible", real, "share of the mesh's vertices that are visible, 0..1"),
        Column("quality_coverage", real, "share of the crop that the mesh covers, 0..1"),
    )


def _coefficient_columns(facts: AssetFacts) -> list[Column]:
    what = {
        "id": ("identity", "", ""),
        "exp": ("expression", "", ""),
        "alb": ("albedo", "", ""),
        "angle": ("pitch, yaw, roll", "rad", "camera frame"),
        "sh": ("spherical-harmonics lighting, 9 bands of R, then G, then B", "", "model frame"),
        "trans": ("translation", "model units", "camera frame"),
    }
    return [
        Column(f"coef_{name}", floats(size), f"{what[name][0]} coefficients", *what[name][1:])
        for name, size in facts.coefficients.items()
    ]


def _landmark_columns(facts: AssetFacts) -> list[Column]:
    sizes = landmark_sizes(facts)
    points = [
        Column(f"ldm{name}", floats(2 * n), f"x, y of {n} landmarks", "px", "image pixels")
        for name, n in sizes.items()
    ]
    visible = [
        Column(f"ldm{name}_visible", pa.list_(pa.bool_(), n), "is the landmark's vertex visible")
        for name, n in sizes.items()
    ]
    return [*points, *visible]


def landmark_sizes(facts: AssetFacts) -> dict[str, int]:
    """Points of each landmark set; the marching set has as many as the fixed one it starts from."""
    known = dict(facts.landmarks)
    if "106" in known:
        known.setdefault("106_2d", known["106"])
    return {name: known.get(name, size) for name, size in DEFAULT_LANDMARKS.items()}


def _object_columns() -> list[Column]:
    what = {
        "mesh_pca": "mesh with the model's texture",
        "mesh_extracted": "mesh with the photograph's texture",
        "texture": "UV texture",
        "overlay": "labels drawn over the photograph",
    }
    return [
        column
        for name in OBJECT_COLUMNS
        for column in (
            Column(f"{name}_uri", pa.string(), f"{what[name]}, relative to OUTPUT"),
            Column(f"{name}_bytes", pa.int64(), "size of that file", "bytes"),
            Column(f"{name}_sha256", pa.string(), "SHA-256 of that file, hexadecimal"),
        )
    ]


def floats(size: int) -> pa.DataType:
    return pa.list_(pa.float32(), size)


def _described(column: Column) -> dict[str, str]:
    described = {"type": str(column.type), "description": column.description}
    if column.unit:
        described["unit"] = column.unit
    if column.frame:
        described["frame"] = column.frame
    return described


def _feature(kind: pa.DataType) -> dict[str, Any]:
    """The same type in the vocabulary of the Hugging Face ``datasets`` library."""
    if pa.types.is_fixed_size_list(kind):
        return {
            "feature": _feature(kind.value_type),
            "length": kind.list_size,
            "_type": "Sequence",
        }
    names = {"float": "float32", "double": "float64"}
    return {"dtype": names.get(str(kind), str(kind)), "_type": "Value"}
