"""The columns of a part file: names, Arrow types, units and frames, as data.

One row is one face; an image without any has one row too. Documentation, file metadata and the
Arrow schema all come from :func:`columns`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from jobs.pipeline.record.facts import AssetFacts

FORMAT_VERSION = 2
"""Format of part files. Version 1 had lists of a fixed size."""
METADATA_KEY = b"tddfa3"
"""Key in the file metadata of what a part file says about itself, as JSON."""

OK_STATUSES = ("ok", "no_face")
"""Images that were labelled."""
IMAGE_FAILURES = ("decode_error", "unsupported", "too_large", "label_error", "crashed")
"""Images that were not labelled, by reason; ``--retry-failed`` does them again."""
STATUSES = (*OK_STATUSES, *IMAGE_FAILURES, "shard_error")
"""All of them; a ``shard_error`` row stands for the unreadable rest of a shard."""

OBJECT_COLUMNS = ("mesh_pca", "mesh_extracted", "texture", "overlay")
"""Each has three columns, with the suffixes ``_uri``, ``_bytes`` and ``_sha256``."""
FILTERED = (
    "image_id", "shard", "key", "image_width", "image_height", "status", "n_faces", "face_index",
    "score", "yaw", "pitch", "roll",
    "quality_points", "quality_points106", "quality_visible", "quality_coverage",
)  # fmt: skip
"""Columns that queries filter by: part files keep their minima and maxima."""
_FIXED_SIZE_LIST = re.compile(r"fixed_size_list<item: (\w+)>\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a part file.

    Attributes:
        name: its name.
        type: its Arrow type.
        description: what it holds.
        unit: empty where there is none.
        frame: the coordinate frame; empty where there is none.
        length: of every list in the column; None where it holds no lists.
    """

    name: str
    type: pa.DataType
    description: str
    unit: str = ""
    frame: str = ""
    length: int | None = None


@dataclass(frozen=True)
class LabelSchema:
    """The columns of one run, and what every part file says about itself.

    Attributes:
        facts: of the run's assets, which set the lengths of lists.
        fingerprint: of the run.
        versions: of the packages that computed the labels.
    """

    facts: AssetFacts
    fingerprint: str
    versions: Mapping[str, str]

    @property
    def columns(self) -> tuple[Column, ...]:
        """Every column, in file order."""
        return columns(self.facts)

    def arrow(self, counts: Mapping[str, Any] | None = None) -> pa.Schema:
        """The Arrow schema with its file metadata; ``counts`` is added for one part."""
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
        features = {c.name: _feature(c) for c in self.columns}
        return {
            METADATA_KEY: json.dumps(about, sort_keys=True).encode(),
            b"huggingface": json.dumps({"info": {"features": features}}).encode(),
        }


def failed_images(statuses: Mapping[str, int]) -> int:
    """How many images have a status of failure, of images by status."""
    return sum(n for status, n in statuses.items() if status not in OK_STATUSES)


def read_metadata(schema: pa.Schema) -> dict[str, Any]:
    """What a part file says about itself; columns as the present format describes them.

    Raises:
        ValueError: it is not a part file of this program, or of a later version.
    """
    raw = (schema.metadata or {}).get(METADATA_KEY)
    if raw is None:
        raise ValueError("no tddfa3 metadata: not a part file of this program")
    about: dict[str, Any] = json.loads(raw)
    if about.get("format") not in range(1, FORMAT_VERSION + 1):
        raise ValueError(f"part file of format {about.get('format')}, known is {FORMAT_VERSION}")
    if about["format"] == 1:
        about["columns"] = _upgraded(about["columns"])
    return about


def list_lengths(schema: pa.Schema) -> dict[str, int]:
    """Lengths of the lists in each list column of a part file.

    Raises:
        ValueError: as for :func:`read_metadata`.
    """
    described = read_metadata(schema)["columns"]
    return {name: about["length"] for name, about in described.items() if "length" in about}


def _upgraded(described: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Version 1's descriptions of columns, with the length moved out of the type."""
    columns = {}
    for name, about in described.items():
        columns[name] = dict(about)
        if match := _FIXED_SIZE_LIST.fullmatch(about["type"]):
            columns[name] |= {"type": f"list<element: {match[1]}>", "length": int(match[2])}
    return columns


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
        _list("box", 4, "x0, y0, x1, y1 of the detected box", "px", image),
        Column("score", real, "the detector's score, 0..1"),
        _list(
            "points5",
            10,
            "x, y of the viewer's left eye, right eye, nose tip, left and right mouth corner",
            "px",
            image,
        ),
        _list(
            "points106",
            212,
            "x, y of the 106 points that the detector's own network saw",
            "px",
            image,
        ),
        _list(
            "crop_params",
            5,
            "w0, h0, s, tx, ty: the way between image and crop pixels (ty with y up)",
            "px, px, 1, px, px",
            image,
            of=pa.float64(),
        ),
        *_coefficient_columns(facts),
        _list("camera_K", 9, "intrinsics, row-major", "px", image),
        _list("camera_R", 9, "rotation model to camera, row-major", "", "OpenCV axes"),
        _list("camera_t", 3, "translation model to camera", "model units", "OpenCV axes"),
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
        _list(f"coef_{name}", size, f"{what[name][0]} coefficients", *what[name][1:])
        for name, size in facts.coefficients.items()
    ]


def _landmark_columns(facts: AssetFacts) -> list[Column]:
    points = [
        _list(f"ldm{name}", 2 * n, f"x, y of {n} landmarks", "px", "image pixels")
        for name, n in facts.landmarks.items()
    ]
    visible = [
        _list(f"ldm{name}_visible", n, "is the landmark's vertex visible", of=pa.bool_())
        for name, n in facts.landmarks.items()
    ]
    return [*points, *visible]


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


def _list(
    name: str,
    length: int,
    description: str,
    unit: str = "",
    frame: str = "",
    of: pa.DataType | None = None,
) -> Column:
    """A column of lists of one length, of float32 unless ``of`` says otherwise."""
    # Parquet's own name, and so what every reader of a part file sees.
    kind = pa.list_(pa.field("element", of or pa.float32()))
    return Column(name, kind, description, unit, frame, length)


def _described(column: Column) -> dict[str, Any]:
    described: dict[str, Any] = {"type": str(column.type), "description": column.description}
    if column.length is not None:
        described["length"] = column.length
    if column.unit:
        described["unit"] = column.unit
    if column.frame:
        described["frame"] = column.frame
    return described


def _feature(column: Column) -> dict[str, Any]:
    """The column's type in the vocabulary of the Hugging Face ``datasets`` library."""
    if column.length is not None:
        value = _value(column.type.value_type)
        return {"feature": value, "length": column.length, "_type": "Sequence"}
    return _value(column.type)


def _value(kind: pa.DataType) -> dict[str, str]:
    return {"dtype": type_name(kind), "_type": "Value"}


def type_name(kind: pa.DataType) -> str:
    """NumPy's name of an Arrow type: ``float32`` where Arrow says ``float``."""
    return {"float": "float32", "double": "float64"}.get(str(kind), str(kind))
