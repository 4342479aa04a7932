"""Tar shards in WebDataset's layout: for each face an image and its labels, ready for training."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np

from jobs.pipeline.export.files import File, Item
from jobs.pipeline.label.objects import encode_image
from jobs.pipeline.record.rows import png
from tddfa3.coefficients import Coefficients
from tddfa3.geometry.crop import crop_image

_IN_JSON = (
    "image_id", "face_index", "n_faces", "image_width", "image_height", "box", "score", "points5",
    "crop_params", "camera_K", "camera_R", "camera_t", "yaw", "pitch", "roll", "quality_points",
    "quality_points106", "quality_visible", "quality_coverage",
)  # fmt: skip


def shard_name(number: int) -> str:
    """The tar of a batch."""
    return f"faces-{number:06d}.tar"


def sample(item: Item, sets: Sequence[str], images: str) -> Iterator[File]:
    """The files of one sample, ``<name>.<kind>``.

    The image (``jpg``, ``png``, ... as it was, or ``crop.png``); ``json`` with box, camera, angles
    and quality; ``coefficients.npy`` float32 (n,); ``ldm<set>.npy`` float32 (N, 2) in image pixels,
    or in crop pixels if the image is the crop; ``seg_visible.png`` and ``seg.png`` of the crop.

    Args:
        item: the face, with its photograph.
        sets: landmark sets to write, as far as the face has them.
        images: "photo" or "crop".

    Raises:
        ValueError: the item lacks its photograph.
    """
    if item.photo is None:
        raise ValueError(f"{item.name}: the photograph is needed")
    row, crop = item.row, item.crop
    if images == "crop":
        yield "crop.png", encode_image(crop_image(item.photo.image, crop), "png")
    else:
        yield item.photo.suffix, item.photo.data
    yield "json", json.dumps({name: row.get(name) for name in _IN_JSON}).encode()
    parts = [row[f"coef_{name}"] for name in Coefficients._fields]  # each (n,)
    yield "coefficients.npy", _npy(np.concatenate(parts))
    for name in sets:
        points = item.landmarks(name)
        if points is not None:
            yield f"ldm{name}.npy", _npy(crop.to_crop(points) if images == "crop" else points)
    for name in ("seg_visible", "seg"):
        labels = item.mask(name)
        if labels is not None:
            yield f"{name}.png", png(labels)


class ShardWriter:
    """Writes samples into a tar whose bytes depend on the samples alone."""

    def __init__(self, file: IO[bytes]) -> None:
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT)  # noqa: SIM115

    def write(self, name: str, files: Iterator[File]) -> None:
        """Add a sample: (kind, content) of each of its files."""
        for kind, data in files:
            member = tarfile.TarInfo(f"{name}.{kind}")
            member.size = len(data)
            member.mode = 0o644
            self._tar.addfile(member, io.BytesIO(data))

    def close(self) -> None:
        """Write the end of the archive; ``file`` stays open."""
        self._tar.close()


def _npy(values: Any) -> bytes:
    sink = io.BytesIO()
    np.save(sink, np.asarray(values, np.float32), allow_pickle=False)
    return sink.getvalue()
