"""One face as files: meshes, landmarks, masks, poses. A file's content follows from the row."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray

from jobs.pipeline.export.photos import SourcePhoto
from jobs.pipeline.export.plan import ExportConfig
from jobs.pipeline.record.rows import decode_png, png
from tddfa3.drawing.mesh import encode_mesh
from tddfa3.face import Face
from tddfa3.geometry.camera import pose_para
from tddfa3.geometry.crop import CropTransform

File = tuple[str, bytes]
"""Name relative to DEST, or the kind of a sample's file, and content."""
Floats = NDArray[np.float32]
Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class Item:
    """A face to be exported.

    Attributes:
        row: as Parquet has it, column by column.
        name: what its files are called, without the folder of the kind and the suffix.
        face: what was made again from the row; None where that was not needed.
        photo: None where it was not needed.
    """

    row: dict[str, Any]
    name: str
    face: Face | None = None
    photo: SourcePhoto | None = None

    @property
    def crop(self) -> CropTransform:
        """The way between pixels of the image and of the crop."""
        return CropTransform.from_params(self.row["crop_params"])

    def landmarks(self, name: str) -> Floats | None:
        """(N, 2) image pixels; None if there is no such set."""
        if self.face is not None and name in self.face.landmarks:
            return self.face.landmarks[name]
        value = self.row.get(f"ldm{name}")
        return None if value is None else np.asarray(value, np.float32).reshape(-1, 2)

    def landmarks_visible(self, name: str) -> NDArray[np.bool_] | None:
        """(N,) whether each landmark is visible; None if there is no such set."""
        if self.face is not None and name in self.face.landmarks_visible:
            return self.face.landmarks_visible[name]
        value = self.row.get(f"ldm{name}_visible")
        return None if value is None else np.asarray(value, np.bool_)

    def mask(self, name: str) -> Labels | None:
        """(224, 224) label map of the crop, "seg" or "seg_visible"; None if there is none."""
        made: Labels | None = None if self.face is None else getattr(self.face, name)
        if made is not None:
            return made
        return None if self.row.get(name) is None else decode_png(self.row[name])


def face_files(config: ExportConfig, sets: Sequence[str], item: Item) -> Iterator[File]:
    """The files of ``--layout files`` for one face."""
    if item.face is not None:
        several = len(config.mesh_sources) > 1
        for source, mesh in item.face.meshes.items():
            kind = f"_{source}" if several else ""
            rel = f"meshes/{item.name}{kind}.{config.mesh_format}"
            yield rel, encode_mesh(mesh, config.mesh_format)
    yield from _landmark_files(config, sets, item)
    if "png" in config.mask_formats:
        labels = item.mask("seg_visible")
        if labels is not None:
            on_image = config.mask_frame == "image"
            # (H, W) of the photograph, or (224, 224).
            pixels = item.crop.labels_to_image(labels) if on_image else labels
            yield f"masks/{item.name}.png", png(pixels)
    if config.poses:
        yield f"poses/{item.name}.mat", mat(item)


def _landmark_files(config: ExportConfig, sets: Sequence[str], item: Item) -> Iterator[File]:
    points = {name: item.landmarks(name) for name in sets}
    if "pts" in config.landmark_formats:
        for name, values in points.items():
            if values is not None:
                kind = "" if name == "68" else f"_{name}"
                yield f"landmarks/{item.name}{kind}.pts", pts(values)
    if "json" in config.landmark_formats:
        yield f"landmarks/{item.name}.json", landmark_json(item, sets)


def pts(points: Floats) -> bytes:
    """(N, 2) points in 300W's text format, whose pixels are counted from 1; ours from 0."""
    lines = [f"{x + 1:.6f} {y + 1:.6f}" for x, y in points.astype(np.float64)]
    head = ["version: 1", f"n_points: {len(points)}", "{"]
    return ("\n".join([*head, *lines, "}"]) + "\n").encode()


def landmark_json(item: Item, sets: Sequence[str]) -> bytes:
    """Points in image pixels, counted from 0, by set, with what is needed to place them."""
    row = item.row
    points = {name: item.landmarks(name) for name in sets}
    visible = {name: item.landmarks_visible(name) for name in sets}
    about = {name: row.get(name) for name in ("image_id", "face_index", "box", "score")}
    about |= {name: row.get(name) for name in ("image_width", "image_height")}
    about["points5"] = None if row.get("points5") is None else _pairs(row["points5"])
    about["landmarks"] = {name: v.tolist() for name, v in points.items() if v is not None}
    about["visible"] = {name: v.tolist() for name, v in visible.items() if v is not None}
    return (json.dumps(about) + "\n").encode()


def mat(item: Item) -> bytes:
    """A MATLAB 5 file with AFLW2000's names.

    Pose_Para (1, 7), Shape_Para, Exp_Para and Tex_Para (n, 1), Illum_Para (1, 27), roi (1, 4) where
    there is a box, pt2d (2, 68) where there are landmarks.

    Shape, expression and texture belong to this face model's bases, not to AFLW2000's; pixels are
    counted from 1, as MATLAB does. For the seven numbers of the pose see ``docs/geometry.md``.
    """
    row = item.row
    content: dict[str, Any] = {
        "Pose_Para": pose_para(row["coef_angle"], row["coef_trans"], item.crop)[None],  # (1, 7)
        "Shape_Para": np.asarray(row["coef_id"], np.float64)[:, None],  # (n, 1)
        "Exp_Para": np.asarray(row["coef_exp"], np.float64)[:, None],
        "Tex_Para": np.asarray(row["coef_alb"], np.float64)[:, None],
        "Illum_Para": np.asarray(row["coef_sh"], np.float64)[None],  # (1, 27)
    }
    if row.get("box") is not None:
        content["roi"] = np.asarray(row["box"], np.float64)[None] + 1
    points = item.landmarks("68")
    if points is not None:
        content["pt2d"] = points.T.astype(np.float64) + 1  # (2, 68)
    sink = io.BytesIO()
    scipy.io.savemat(sink, content)
    # The header's text is all that depends on the time of day; files must be reproducible.
    return b"MATLAB 5.0 MAT-file, tddfa3".ljust(116) + sink.getvalue()[116:]


def _pairs(values: Sequence[float]) -> list[list[float]]:
    return [list(pair) for pair in zip(values[::2], values[1::2], strict=True)]
