"""The photographs that labels came from, read again through the indexes that the run has kept."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.pipeline.label.decode import FORMATS, decode
from jobs.pipeline.output.reading import LabelledRun
from jobs.pipeline.record import config as configs
from jobs.pipeline.record.index import KeptIndex, load_index
from jobs.pipeline.record.layout import Layout
from jobs.pipeline.record.run import read_options
from jobs.pipeline.shards import Member, ReadOptions, ShardReadError, read_members
from jobs.pipeline.storage.store import Store

_SUFFIXES = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif", "JPEG2000": "jp2"}
_INDEXES_HELD = 8


@dataclass(frozen=True, slots=True)
class SourcePhoto:
    """A photograph.

    Attributes:
        data: its encoded bytes.
        suffix: of a file with these bytes, without a dot.
        image: (H, W, 3) uint8 RGB, after EXIF rotation.
    """

    data: bytes
    suffix: str
    image: NDArray[np.uint8]


class PhotoReader:
    """Reads photographs by shard and key.

    Args:
        store: the output, for its kept indexes.
        layout: names of the files in the output.
        options: as the label job read its input.
    """

    def __init__(self, store: Store, layout: Layout, options: ReadOptions) -> None:
        self._options = options
        self._index = lru_cache(_INDEXES_HELD)(
            lambda shard_id: load_index(store, layout.index(shard_id))
        )

    def read(
        self, shard_id: str, digests: Mapping[str, str | None], chunk: Mapping[str, Any]
    ) -> Iterator[tuple[str, SourcePhoto | str]]:
        """Photographs of one shard by key, in the shard's order, or why one is not available.

        Args:
            shard_id: the shard, as the rows name it.
            digests: SHA-256 of the encoded bytes by key, as it was when it was labelled.
            chunk: which members of the shard these are among, as the part file says; may be empty.

        Raises:
            StoreError: fatal kinds only.
        """
        index = self._index(shard_id)
        if index is None:
            for key in digests:
                yield key, "the run keeps no index of its shard"
            return
        members = {m.key: m for m in self._members(index, chunk) if m.key in digests}
        for key in digests.keys() - members.keys():
            yield key, "not in the index of its shard"
        for member, data in read_members(index.shard, members.values(), self._options):
            yield member.key, _photo(data, digests[member.key])

    @staticmethod
    def _members(index: KeptIndex, chunk: Mapping[str, Any]) -> list[Member]:
        if "first" in chunk and chunk.get("shard") == index.shard.id:
            return index.members(chunk["first"], chunk["count"])
        return index.index.members


def photo_options(run: LabelledRun, s3_endpoint: str) -> ReadOptions:
    """How the label job read its input; ``s3_endpoint`` replaces its endpoint unless empty."""
    if run.manifest is None:
        return ReadOptions(s3_endpoint=s3_endpoint or None)
    options = read_options(configs.from_json(run.manifest["config"]))
    return replace(options, s3_endpoint=s3_endpoint) if s3_endpoint else options


def _photo(data: bytes | ShardReadError, digest: str | None) -> SourcePhoto | str:
    if isinstance(data, ShardReadError):
        return f"the photograph cannot be read: {data.why}"
    if digest is not None and hashlib.sha256(data).hexdigest() != digest:
        return "the photograph is not the one that was labelled (its digest differs)"
    # No limit on pixels: the image was decoded before, when it was labelled.
    image, failure, *_ = decode(data, max_pixels=2**62)
    if image is None:
        return f"the photograph cannot be decoded: {failure.error if failure else ''}"
    return SourcePhoto(data, _suffix(data), image)


def _suffix(data: bytes) -> str:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        form = image.format or "bin"
    return _SUFFIXES.get(form, form.lower())
