"""Shard indexes, kept in the output so that each shard is listed once.

``_run/index/<shard>.parquet`` holds the member table. Its metadata hold what a plan needs: counts,
and the chunks for the limits the run was started with. So a plan is made and resumed by reading one
footer per shard, and an actor reads the rows of its chunk only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.pipeline.chunks import Chunk, cut
from jobs.pipeline.names import shard_path
from jobs.pipeline.shards import Member, ReadOptions, Shard, ShardIndex, index_shard
from jobs.pipeline.shards.reader import RangeFile, RangeReader
from jobs.pipeline.store import Store, StoreError
from tddfa3.errors import UserError

INDEX_FOLDER = "_run/index"
FORMAT = 1
_KEY = b"tddfa3_index"
_ROWS_PER_GROUP = 4096
#: Indexes read at once when a plan is made: each is one or two small requests.
PARALLEL_PLANS = 16

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


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """What there is to do in one shard: counts and chunks, no member.

    Attributes:
        images: members listed.
        bytes: their encoded bytes (for Parquet an estimate, for lists 0).
        error: why the listing stopped early, naming the offset, or None.
        end_offset: up to where the shard was listed.
        chunks: in order; empty if there is no image.
    """

    shard: Shard
    images: int
    bytes: int
    error: str | None
    end_offset: int
    chunks: tuple[Chunk, ...]


class ShardChanged(UserError):
    """A shard is not the one whose index is kept.

    Attributes:
        shard_id: which.
        before, after: ``(size, etag)`` then and now.
    """

    def __init__(self, shard_id: str, before: tuple[int, str], after: tuple[int, str]) -> None:
        super().__init__(shard_id, before, after)
        self.shard_id = shard_id
        self.before = before
        self.after = after

    def __str__(self) -> str:
        sizes = f"{self.before[0]} -> {self.after[0]} bytes"
        etags = f"etag {self.before[1]} -> {self.after[1]}"
        return f"shard {self.shard_id} changed since it was listed ({sizes}, {etags})"


def index_name(shard_id: str) -> str:
    """Where the index of a shard is kept, relative to the output."""
    return f"{INDEX_FOLDER}/{shard_path(shard_id)}.parquet"


def save_index(
    store: Store, shard: Shard, index: ShardIndex, chunk_images: int, chunk_bytes: int
) -> ShardPlan:
    """Keep an index, with the chunks for these limits, and return the plan."""
    plan = ShardPlan(
        shard=shard,
        images=len(index.members),
        bytes=sum(member.size for member in index.members),
        error=index.error,
        end_offset=index.end_offset,
        chunks=tuple(cut(index, chunk_images, chunk_bytes)),
    )
    store.publish(index_name(shard.id), _encode(plan, index.members, chunk_images, chunk_bytes))
    return plan


def load_plan(store: Store, shard: Shard, chunk_images: int, chunk_bytes: int) -> ShardPlan | None:
    """The plan from a kept index; None if there is none, or none that can be read.

    Only the footer is read, unless the index was kept for other limits: then sizes are read too.

    Raises:
        ShardChanged: the index is of other content.
    """
    file = _open(store, shard.id)
    meta = _metadata(file)
    if file is None or meta is None:
        return None
    before = (meta["shard"]["size"], meta["shard"]["etag"])
    if before != (shard.size, shard.etag) or meta["shard"]["kind"] != shard.kind:
        raise ShardChanged(shard.id, before, (shard.size, shard.etag))
    if (meta["chunk_images"], meta["chunk_bytes"]) == (chunk_images, chunk_bytes):
        chunks = tuple(
            Chunk(shard.id, number, *numbers) for number, numbers in enumerate(meta["chunks"])
        )
    else:
        index = ShardIndex(shard.id, list(_decode(file.read())))
        chunks = tuple(cut(index, chunk_images, chunk_bytes))
    return ShardPlan(
        shard, meta["images"], meta["bytes"], meta["error"], meta["end_offset"], chunks
    )


def plan_shard(
    store: Store,
    shard: Shard,
    chunk_images: int,
    chunk_bytes: int,
    options: ReadOptions | None = None,
    *,
    accept_changed: bool = False,
) -> ShardPlan:
    """The plan of a shard: from its kept index if that is whole and of this content, else by
    listing the shard (and keeping the index).

    An index that ended in an error is made again: the shard may have become readable.

    Args:
        accept_changed: list a shard again whose content changed.

    Raises:
        ShardChanged: unless ``accept_changed``.
        StoreError: fatal kinds.
    """
    try:
        plan = load_plan(store, shard, chunk_images, chunk_bytes)
    except ShardChanged:
        if not accept_changed:
            raise
        plan = None
    if plan is not None and plan.error is None:
        return plan
    return save_index(store, shard, index_shard(shard, options), chunk_images, chunk_bytes)


def load_plans(
    store: Store, shards: Sequence[Shard], chunk_images: int, chunk_bytes: int
) -> Iterator[tuple[Shard, ShardPlan | ShardChanged | None]]:
    """:func:`load_plan` for many shards, several at once, in their order; nothing is listed."""

    def load(shard: Shard) -> ShardPlan | ShardChanged | None:
        try:
            return load_plan(store, shard, chunk_images, chunk_bytes)
        except ShardChanged as changed:
            return changed

    with ThreadPoolExecutor(PARALLEL_PLANS, thread_name_prefix="plan") as pool:
        yield from zip(shards, pool.map(load, shards), strict=True)


def load_members(store: Store, chunk: Chunk) -> list[Member]:
    """The members of one chunk, from the kept index.

    Raises:
        StoreError: kind ``not_found`` if there is no index, ``failed`` if it does not hold them.
    """
    file = _open(store, chunk.shard_id)
    name = store.uri(index_name(chunk.shard_id))
    if file is None:
        raise StoreError("not_found", name, "no such index")
    groups = range(
        chunk.first // _ROWS_PER_GROUP, -(-(chunk.first + chunk.count) // _ROWS_PER_GROUP)
    )
    if groups.stop > file.num_row_groups:
        raise StoreError("failed", name, f"the index is shorter than chunk {chunk.number}")
    table = file.read_row_groups(list(groups))
    members = list(_decode(table.slice(chunk.first - groups.start * _ROWS_PER_GROUP, chunk.count)))
    if len(members) != chunk.count:
        raise StoreError("failed", name, f"the index is shorter than chunk {chunk.number}")
    return members


def _encode(
    plan: ShardPlan, members: Sequence[Member], chunk_images: int, chunk_bytes: int
) -> memoryview:
    chunks = [(c.first, c.count, c.offset_lo, c.offset_hi) for c in plan.chunks]
    meta = {
        "format": FORMAT,
        "shard": asdict(plan.shard),
        "images": plan.images,
        "bytes": plan.bytes,
        "error": plan.error,
        "end_offset": plan.end_offset,
        "chunk_images": chunk_images,
        "chunk_bytes": chunk_bytes,
        "chunks": chunks,
    }
    columns = [[getattr(member, name) for member in members] for name in _SCHEMA.names]
    position = _SCHEMA.get_field_index("name")
    columns[position] = [name.encode("utf-8", "surrogateescape") for name in columns[position]]
    schema = _SCHEMA.with_metadata({_KEY: json.dumps(meta).encode("ascii")})
    arrays = [pa.array(c, t) for c, t in zip(columns, _SCHEMA.types, strict=True)]
    table = pa.table(arrays, schema=schema)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=_ROWS_PER_GROUP)
    return memoryview(sink.getvalue())


def _decode(table: pa.Table) -> Iterator[Member]:
    for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
        member = Member(*row)
        name = row[_SCHEMA.get_field_index("name")].decode("utf-8", "surrogateescape")
        yield replace(member, name=name)


def _open(store: Store, shard_id: str) -> pq.ParquetFile | None:
    name = index_name(shard_id)
    try:
        size, _ = store.size_etag(name)
        reader = RangeReader(store, name, size)
        return pq.ParquetFile(pa.PythonFile(RangeFile(reader), mode="r"))
    except StoreError as error:
        if error.kind != "not_found":
            raise
        return None
    except (pa.ArrowException, OSError):
        return None  # damaged: it can be made again


def _metadata(file: pq.ParquetFile | None) -> dict[str, Any] | None:
    if file is None:
        return None
    text = (file.metadata.metadata or {}).get(_KEY)
    meta: dict[str, Any] | None = json.loads(text) if text else None
    return meta if meta is not None and meta.get("format") == FORMAT else None
