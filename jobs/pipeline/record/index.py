"""Shard indexes, kept in the output so that each shard is listed once.

``_run/index/<shard>.parquet`` holds the member table. Its metadata hold what a plan needs: counts,
and the chunks for the limits the run was started with. So a plan is made and resumed by reading one
footer per shard, and an actor reads only the rows of its chunk.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from functools import cached_property
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.pipeline.record.chunks import Chunk, cut
from jobs.pipeline.shards import Member, Shard, ShardIndex
from jobs.pipeline.shards.reader import RangeFile, RangeReader
from jobs.pipeline.storage.store import Store, StoreError

FORMAT = 1
"""Version of the file; an index of another version is made again."""
KEY = b"tddfa3_index"
"""Key in the file metadata of what a plan needs of the index, as JSON."""
_ROWS_PER_GROUP = 4096

_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        # Binary: names may be any bytes.
        ("name", pa.binary()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("span", pa.int64()),
        ("method", pa.int32()),
        ("crc", pa.int64()),
        ("error", pa.string()),
    ]
)


class KeptIndex:
    """An index as it is kept; counts and chunks cost nothing, members are read when asked for.

    Attributes:
        shard: as it was when it was listed, with the size and etag it had then.
        images: members listed.
        bytes: their encoded bytes (for Parquet an estimate, for lists 0).
        error: why the listing stopped early, naming the offset, or None.
        end_offset: up to where the shard was listed.
    """

    def __init__(self, file: pq.ParquetFile, meta: dict[str, Any], uri: str) -> None:
        self._file = file
        # Several threads at once in one ParquetFile crash the process.
        self._reading = Lock()
        self._meta = meta
        self._uri = uri
        self.shard = Shard(**meta["shard"])
        self.images: int = meta["images"]
        self.bytes: int = meta["bytes"]
        self.error: str | None = meta["error"]
        self.end_offset: int = meta["end_offset"]

    @property
    def size(self) -> int:
        """Bytes of the shard when it was listed."""
        return self.shard.size

    @property
    def etag(self) -> str:
        """Etag of the shard when it was listed."""
        return self.shard.etag

    @cached_property
    def index(self) -> ShardIndex:
        """The whole index, all members included."""
        with self._reading:
            table = self._file.read()
        members = list(_decode(table))
        return ShardIndex(self.shard.id, members, self.error, self.end_offset)

    def difference(self, shard: Shard) -> str | None:
        """How ``shard``, as it is now, differs from what was listed; None if it is the same."""
        before, now = (self.size, self.etag), (shard.size, shard.etag)
        if before == now and self.shard.kind == shard.kind:
            return None
        return f"{before[0]} -> {now[0]} bytes, etag {before[1]} -> {now[1]}"

    def chunks(self, chunk_images: int, chunk_bytes: int) -> list[Chunk]:
        """The index, cut by :func:`~jobs.pipeline.record.chunks.cut`.

        No member is read if the limits are those that the index was kept with.
        """
        if [chunk_images, chunk_bytes] != self._meta["limits"]:
            return cut(self.index, chunk_images, chunk_bytes)
        kept = enumerate(self._meta["chunks"])
        return [Chunk(self.shard.id, number, *numbers) for number, numbers in kept]

    def members(self, first: int, count: int) -> list[Member]:
        """Members ``first`` to ``first + count - 1``; only their part of the table is read.

        Raises:
            StoreError: kind ``failed``, if there are not that many.
        """
        low = first // _ROWS_PER_GROUP
        high = min(-(-(first + count) // _ROWS_PER_GROUP), self._file.num_row_groups)
        with self._reading:
            table = self._file.read_row_groups(list(range(low, high)))
        members = list(_decode(table.slice(first - low * _ROWS_PER_GROUP, count)))
        if len(members) != count:
            why = f"{self.images} members, {count} wanted from {first} on"
            raise StoreError("failed", self._uri, why)
        return members


def save_index(
    store: Store, rel: str, shard: Shard, index: ShardIndex, chunk_images: int, chunk_bytes: int
) -> None:
    """Keep an index as ``rel``, with its chunks for these limits; an older one is replaced."""
    store.publish(rel, _encode(shard, index, chunk_images, chunk_bytes))


def load_index(store: Store, rel: str) -> KeptIndex | None:
    """The index kept as ``rel``; None if there is none, or none that can be read.

    Only the footer is read: one or two small requests. The caller compares
    (:meth:`KeptIndex.difference`) before relying on it.
    """
    try:
        size, _ = store.size_etag(rel)
        file = pq.ParquetFile(pa.PythonFile(RangeFile(RangeReader(store, rel, size)), mode="r"))
    except StoreError as error:
        if error.kind != "not_found":
            raise
        return None
    except (pa.ArrowException, OSError):
        return None  # damaged: it can be made again
    text = (file.metadata.metadata or {}).get(KEY)
    meta = json.loads(text) if text else {}
    return KeptIndex(file, meta, store.uri(rel)) if meta.get("format") == FORMAT else None


def _encode(shard: Shard, index: ShardIndex, chunk_images: int, chunk_bytes: int) -> memoryview:
    chunks = cut(index, chunk_images, chunk_bytes)
    meta = {
        "format": FORMAT,
        "shard": asdict(shard),
        "images": len(index.members),
        "bytes": sum(member.size for member in index.members),
        "error": index.error,
        "end_offset": index.end_offset,
        "limits": [chunk_images, chunk_bytes],
        "chunks": [(c.first, c.count, c.offset_lo, c.offset_hi) for c in chunks],
    }
    columns = [[getattr(member, name) for member in index.members] for name in _SCHEMA.names]
    position = _SCHEMA.get_field_index("name")
    columns[position] = [name.encode("utf-8", "surrogatepass") for name in columns[position]]
    schema = _SCHEMA.with_metadata({KEY: json.dumps(meta).encode("ascii")})
    arrays = [pa.array(c, t) for c, t in zip(columns, _SCHEMA.types, strict=True)]
    table = pa.table(arrays, schema=schema)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=_ROWS_PER_GROUP)
    return memoryview(sink.getvalue())


def _decode(table: pa.Table) -> Iterator[Member]:
    columns = [column.to_pylist() for column in table.columns]
    position = _SCHEMA.get_field_index("name")
    columns[position] = [name.decode("utf-8", "surrogatepass") for name in columns[position]]
    return map(Member, *columns)
