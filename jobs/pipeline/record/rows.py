"""Labelled images to Arrow tables: one row per face, one row for an image without any."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.pipeline.record.schema import STATUSES, Column, LabelSchema, type_name

if TYPE_CHECKING:
    from tddfa3.face import Face

Row = dict[str, Any]
"""Column name to a Python or NumPy value; a missing column is null."""

# For small label maps level 1 is as fast as level 0, and 1.2 times as large as level 9.
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1]


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """What is known about an image before, or without, any label.

    Attributes:
        shard: id of its shard.
        key: its key in the shard.
        width: pixels, after EXIF rotation; None where it could not be read.
        height: pixels, after EXIF rotation; None where it could not be read.
        sha256: of the encoded bytes, hexadecimal; None where they could not be read.
    """

    shard: str
    key: str
    width: int | None = None
    height: int | None = None
    sha256: str | None = None

    def row(self, status: str, error: str | None = None, n_faces: int | None = None) -> Row:
        """The columns that describe the image, for one row.

        Args:
            status: one of :data:`~jobs.pipeline.record.schema.STATUSES`.
            error: why there are no labels, for a person.
            n_faces: faces found in the image.

        Raises:
            ValueError: there is no such status.
        """
        if status not in STATUSES:
            raise ValueError(f"status {status!r} is not one of {', '.join(STATUSES)}")
        return {
            "image_id": f"{self.shard}/{self.key}",
            "shard": self.shard,
            "key": self.key,
            "image_width": self.width,
            "image_height": self.height,
            "image_sha256": self.sha256,
            "status": status,
            "error": error,
            "n_faces": n_faces,
        }


def image_rows(image: ImageRecord, faces: Sequence[Face]) -> list[Row]:
    """The rows of an image that was labelled: one per face, or one without a face."""
    if not faces:
        return [image.row("no_face", n_faces=0)]
    return [image.row("ok", n_faces=face.n_faces) | face_values(face) for face in faces]


def face_values(face: Face) -> Row:
    """The columns of the face itself; :mod:`.label.objects` adds those of its files."""
    crop = face.crop
    values: Row = {
        "face_index": face.face_index,
        "box": face.box,
        "score": face.score,
        "points5": face.points5,
        "points106": face.points106,
        "crop_params": crop.params(),
        "camera_K": face.camera.K,
        "camera_R": face.camera.R,
        "camera_t": face.camera.t,
        "yaw": face.yaw,
        "pitch": face.pitch,
        "roll": face.roll,
        "seg": None if face.seg is None else png(face.seg),
        "seg_visible": None if face.seg_visible is None else png(face.seg_visible),
        "masks_rle": None if face.masks_rle is None else json.dumps(face.masks_rle),
        "quality_points": face.quality_points,
        "quality_points106": face.quality_points106,
        "quality_visible": face.quality_visible,
        "quality_coverage": face.quality_coverage,
    }
    values |= {f"coef_{name}": value for name, value in face.coefficients.items()}
    values |= {f"ldm{name}": points for name, points in face.landmarks.items()}
    values |= {f"ldm{name}_visible": seen for name, seen in face.landmarks_visible.items()}
    return values


def png(labels: NDArray[np.uint8]) -> bytes:
    """An (H, W) label map as a PNG; lossless.

    Raises:
        ValueError: OpenCV cannot encode it.
    """
    written, data = cv2.imencode(".png", labels, _PNG)
    if not written:
        raise ValueError(f"PNG: cannot encode {labels.dtype} {labels.shape}")
    return data.tobytes()


def decode_png(data: bytes) -> NDArray[np.uint8]:
    """The (H, W) label map of a PNG.

    Raises:
        ValueError: it is no PNG of one channel.
    """
    labels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if labels is None or labels.ndim != 2:
        raise ValueError("not a PNG of one channel")
    return labels.astype(np.uint8, copy=False)


def to_table(rows: Sequence[Row], schema: LabelSchema, part: Mapping[str, Any]) -> pa.Table:
    """Rows as a table of the run's schema.

    Args:
        rows: one per face, or per image without a face.
        schema: of the run.
        part: goes into the file metadata, together with the counts of the rows.

    Raises:
        ValueError: a row has an unknown column, or a value of another size than the schema says.
    """
    arrow = schema.arrow({**part, "counts": count(rows)})
    unknown = {name for row in rows for name in row} - set(arrow.names)
    if unknown:
        raise ValueError(f"not in the schema: {', '.join(sorted(unknown))}")
    arrays = [_array(column, [row.get(column.name) for row in rows]) for column in schema.columns]
    return pa.Table.from_arrays(arrays, schema=arrow)


def count(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Images by status, faces and shard errors. A ``shard_error`` row is not an image."""
    statuses = {(row["image_id"]): row["status"] for row in rows}
    by_status = Counter(s for s in statuses.values() if s != "shard_error")
    return {
        "images": sum(by_status.values()),
        "faces": sum(row.get("face_index") is not None for row in rows),
        "status": dict(sorted(by_status.items())),
        "shard_errors": sum(s == "shard_error" for s in statuses.values()),
    }


def _array(column: Column, values: list[Any]) -> pa.Array:
    if column.length is not None:
        return _list_array(column, values)
    return pa.array([_scalar(v) for v in values], type=column.type)


def _scalar(value: Any) -> Any:
    if isinstance(value, float) and np.isnan(value):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _list_array(column: Column, values: list[Any]) -> pa.Array:
    for value in values:
        if value is not None and np.size(value) != column.length:
            raise ValueError(
                f"{column.name}: {column.length} values expected, not shape {np.shape(value)}"
            )
    kind = column.type.value_type
    present = [np.ravel(value) for value in values if value is not None]  # each (length,)
    # By name, because pa.DataType.to_pandas_dtype needs pandas before pyarrow 26.
    flat = np.array(present, dtype=type_name(kind)).reshape(-1)  # (present * length,)
    missing = np.array([value is None for value in values], dtype=bool)  # (rows,)
    starts = np.cumsum([0, *(~missing * (column.length or 0))])  # (rows + 1,)
    # Arrow takes a list for null where its offset is null.
    offsets = pa.array(starts, pa.int32(), mask=np.append(missing, False))
    return pa.ListArray.from_arrays(offsets, pa.array(flat, kind), type=column.type)
