"""Thumbnails: the 224 crop from the overlay, or else from the photograph, as a small JPEG."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from jobs.pipeline.export.photos import PhotoReader, SourcePhoto, photo_options
from jobs.pipeline.output.reading import LabelledRun
from jobs.pipeline.record.parts import read_about
from jobs.pipeline.storage.store import StoreError
from tddfa3.errors import UserError
from tddfa3.geometry.crop import CropTransform, crop_image

Source = Literal["overlay", "photo", "drawing"]
"""What a picture is made of; a drawing is made on the page, from the landmarks."""
Pixels = NDArray[np.uint8]
"""(H, W, 3) uint8 RGB."""

_PARALLEL = 8
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 74, cv2.IMWRITE_JPEG_OPTIMIZE, 1]


@dataclass(frozen=True, slots=True)
class Picture:
    """The picture of one face.

    Attributes:
        source: what it is made of.
        jpeg: a data URL; None when it is to be drawn from its landmarks.
        missing: a file that the row names and that cannot be read, with the reason; or None.
        unread: why the photograph is not available, if it was tried; or None.
    """

    source: Source
    jpeg: str | None = None
    missing: tuple[str, str] | None = None
    unread: str | None = None


class PictureMaker:
    """Makes pictures from the overlays and photographs of one run.

    Args:
        run: the output.
        s3_endpoint: of the photographs; empty: the label job's.
    """

    def __init__(self, run: LabelledRun, s3_endpoint: str = "") -> None:
        self._run = run
        self._photos = PhotoReader(run.store, run.layout, photo_options(run, s3_endpoint))
        self._sizes = {part.rel: part.size for part in run.parts}
        self._chunk = lru_cache(64)(self._read_chunk)

    def all(self, rows: Iterable[dict[str, Any]]) -> list[Picture]:
        """The pictures of some rows, in order."""
        with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="pictures") as pool:
            return list(pool.map(self.of, rows))

    def of(self, row: dict[str, Any]) -> Picture:
        """The picture of one row; what cannot be read is noted in it."""
        missing = None
        if row["overlay_uri"]:
            try:
                return Picture("overlay", _jpeg(self._overlay(row["overlay_uri"]), row))
            except (UserError, ValueError) as error:
                missing = row["overlay_uri"], _reason(error)
        try:
            return Picture("photo", _jpeg(self._photo(row), row), missing)
        except (UserError, ValueError) as error:
            return Picture("drawing", None, missing, _reason(error))

    def _overlay(self, rel: str) -> Pixels:
        data = self._run.store.read(rel)
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
        if pixels is None:
            raise ValueError("not a picture")
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)

    def _photo(self, row: dict[str, Any]) -> Pixels:
        digests = {row["key"]: row["image_sha256"]}
        for _, photo in self._photos.read(row["shard"], digests, self._chunk(row["part"])):
            if isinstance(photo, SourcePhoto):
                return photo.image
            raise ValueError(photo)
        raise ValueError("the photograph is not in its shard")

    def _read_chunk(self, part: str) -> dict[str, Any]:
        """Which members of its shard the part holds, so that not all are searched."""
        about = read_about(self._run.store, part, self._sizes[part])
        chunk: dict[str, Any] = about.get("chunk", {})
        return chunk


def _jpeg(pixels: Pixels, row: dict[str, Any]) -> str:
    """The face's crop of an image, which may be the photograph at another size, as a data URL."""
    crop = scaled(CropTransform.from_params(row["crop_params"]), pixels.shape[1], pixels.shape[0])
    bgr = cv2.cvtColor(crop_image(pixels, crop), cv2.COLOR_RGB2BGR)  # (224, 224, 3)
    _, data = cv2.imencode(".jpg", bgr, _JPEG)
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def scaled(crop: CropTransform, width: int, height: int) -> CropTransform:
    """The same crop of a photograph that was resized, as large overlays are.

    Args:
        crop: of the photograph at its full size.
        width: in pixels, after resizing.
        height: in pixels, after resizing.
    """
    if (crop.w0, crop.h0) == (width, height):
        return crop
    x, y = width / crop.w0, height / crop.h0
    return CropTransform(width, height, crop.s / x, crop.tx * x, crop.ty * y)


def _reason(error: Exception) -> str:
    return error.reason if isinstance(error, StoreError) else str(error)
