"""Many small part files into few large ones: the plan, and each large file of it.

Rows are sorted by shard, key and rank, and are otherwise unchanged. Small shards go together into
one file; a shard that is larger than a file is sorted by its keys alone and then cut, so that no
more than one file's rows are ever held in memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.pipeline.output.reading import LabelledRun, in_parallel
from jobs.pipeline.record.layout import (
    ANNOTATIONS,
    COMPACTION,
    INDEX_FOLDER,
    MANIFEST,
    SUPERSEDED,
)
from jobs.pipeline.record.parts import encode_part, read_part
from jobs.pipeline.record.rows import count
from jobs.pipeline.record.schema import FORMAT_VERSION, METADATA_KEY, read_metadata
from jobs.pipeline.storage.store import Store
from tddfa3.errors import UserError

ROWS_PER_GROUP = 8192
"""About 30 MB: what a reader reads, or skips, at once."""
_SORTED_BY = ("shard", "key", "face_index")
_ORDER = [(name, "ascending") for name in _SORTED_BY]


@dataclass(frozen=True, slots=True)
class ShardParts:
    """The part files of one shard.

    Attributes:
        shard: its id.
        parts: names of its part files, in order.
        rows: in all of them.
    """

    shard: str
    parts: tuple[str, ...]
    rows: int


@dataclass(frozen=True, slots=True)
class LargeFile:
    """One file of a compaction: whole shards, or a piece of one shard.

    Attributes:
        rel: its name.
        shards: whose rows it holds; a single one if there are several pieces.
        piece: which piece of the shard, from 0.
        pieces: how many files the shard is cut into.
    """

    rel: str
    shards: tuple[ShardParts, ...]
    piece: int = 0
    pieces: int = 1


@dataclass(frozen=True)
class CompactionPlan:
    """Which rows go where.

    Attributes:
        files: the large files.
        digest: identifies the part files as they are now, and the plan made for them.
        rows: in all files.
    """

    files: tuple[LargeFile, ...]
    digest: str
    rows: int


def make_plan(run: LabelledRun, rows_per_file: int) -> CompactionPlan:
    """Plan the files of a compaction; reads the footer of every part file, a small request each.

    Raises:
        UnreadableError: a part file is damaged.
        StoreError: one is gone, or the storage failed.
    """
    shards = _shards(run)
    groups = list(_groups(shards, rows_per_file))
    width = max(5, len(str(len(groups))))
    files = tuple(
        LargeFile(f"{ANNOTATIONS}/part-{i:0{width}d}.parquet", *group)
        for i, group in enumerate(groups)
    )
    digest = hashlib.sha256(f"{FORMAT_VERSION} {rows_per_file}\n".encode())
    for part in run.parts:
        digest.update(f"{part.rel}\0{part.size}\0{part.etag}\n".encode())
    return CompactionPlan(files, digest.hexdigest(), sum(shard.rows for shard in shards))


def compacted(store: Store, file: LargeFile) -> pa.Table:
    """The rows of one large file, in order, with its metadata.

    Raises:
        UnreadableError: a part file is damaged.
        StoreError: one is gone, or the storage failed.
    """
    if file.pieces > 1:
        tables = _piece(store, file)
    else:
        tables = _read_all(store, [part for shard in file.shards for part in shard.parts])
    table = pa.concat_tables(tables).sort_by(_ORDER)
    return table.replace_schema_metadata(_metadata(tables, table))


def merged(values: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """What several parts were computed with: by name, all values, separated by commas."""
    found: dict[str, set[str]] = {}
    for value in values:
        for name, text in value.items():
            found.setdefault(name, set()).update(text.split(", "))
    return {name: ", ".join(sorted(texts)) for name, texts in sorted(found.items())}


def encode(table: pa.Table) -> memoryview:
    """The bytes of one large file.

    It has row groups and a page index, so that readers skip what a filter excludes.
    """
    return encode_part(table, rows_per_group=ROWS_PER_GROUP, order=_SORTED_BY)


def _shards(run: LabelledRun) -> list[ShardParts]:
    """Parts by shard, sorted by the shard's id (a folder's name is its escaped form)."""
    found: dict[str, list[tuple[str, int]]] = {}
    for part, about in zip(run.parts, run.footers(), strict=True):
        found.setdefault(about["chunk"]["shard"], []).append((part.rel, _rows(about["counts"])))
    return [
        ShardParts(shard, tuple(rel for rel, _ in parts), sum(rows for _, rows in parts))
        for shard, parts in sorted(found.items())
    ]


def _rows(counts: Mapping[str, Any]) -> int:
    without_face = counts["images"] - counts["status"].get("ok", 0)
    return int(counts["faces"] + without_face + counts["shard_errors"])


def _groups(shards: Sequence[ShardParts], most: int) -> Iterator[tuple[Any, ...]]:
    """(shards, piece, pieces) of each file."""
    group: list[ShardParts] = []
    for shard in shards:
        if group and sum(s.rows for s in group) + shard.rows > most:
            yield tuple(group), 0, 1
            group = []
        if shard.rows > most:
            pieces = -(-shard.rows // most)
            yield from (((shard,), piece, pieces) for piece in range(pieces))
        else:
            group.append(shard)
    if group:
        yield tuple(group), 0, 1


@dataclass(frozen=True)
class _ShardOrder:
    """The sorted rows of a shard, by reference.

    Attributes:
        part_of: (rows,) which part file the row is in.
        row_of: (rows,) which row of that file it is.
        keys: (rows,) its key.
    """

    part_of: NDArray[np.int64]
    row_of: NDArray[np.int64]
    keys: pa.ChunkedArray


@lru_cache(maxsize=1)
def _shard_order(store: Store, shard: ShardParts) -> _ShardOrder:
    """Cached, because the shard's next piece needs it again."""
    tables = [read_part(store, part, _SORTED_BY) for part in shard.parts]
    joined = pa.concat_tables(tables)
    order = pc.sort_indices(joined, sort_keys=_ORDER).to_numpy()  # (rows,)
    part_of = np.repeat(np.arange(len(tables)), [table.num_rows for table in tables])
    row_of = np.concatenate([np.arange(table.num_rows) for table in tables])
    return _ShardOrder(part_of[order], row_of[order], joined["key"].take(order))


def _piece(store: Store, file: LargeFile) -> list[pa.Table]:
    """The rows of piece ``file.piece`` of a shard, by part; those of one image stay together."""
    [shard] = file.shards
    order = _shard_order(store, shard)
    piece = slice(*_bounds(order.keys, file.piece, file.pieces))
    part_of, row_of = order.part_of[piece], order.row_of[piece]
    tables = [
        read_part(store, shard.parts[number]).take(row_of[part_of == number])
        for number in np.unique(part_of)
    ]
    # A piece is empty where one image fills several of them.
    return tables or [read_part(store, shard.parts[0]).slice(0, 0)]


def _bounds(keys: pa.ChunkedArray, piece: int, pieces: int) -> tuple[int, int]:
    """The rows of a piece: even shares, each moved on to where the next image begins."""

    def start_of(number: int) -> int:
        place = len(keys) * number // pieces
        while 0 < place < len(keys) and keys[place].equals(keys[place - 1]):
            place += 1
        return place

    return start_of(piece), start_of(piece + 1)


def _read_all(store: Store, parts: Sequence[str]) -> list[pa.Table]:
    return list(in_parallel(lambda rel: read_part(store, rel), parts))


def _metadata(tables: Sequence[pa.Table], table: pa.Table) -> dict[bytes, bytes]:
    """The first part's, with the counts of these rows and without its chunk."""
    about = read_metadata(table.schema)
    about.pop("chunk", None)
    about["format"] = FORMAT_VERSION
    computed = (read_metadata(part.schema).get("computed_with", {}) for part in tables)
    about["computed_with"] = merged(computed)
    about["counts"] = count(table.select(["image_id", "status", "face_index"]).to_pylist())
    kept = dict(table.schema.metadata)
    return kept | {METADATA_KEY: json.dumps(about, sort_keys=True).encode()}


def begin(run: LabelledRun, dest: Store, plan: CompactionPlan) -> None:
    """Mark ``dest`` as the compaction of this state of the run, and copy what readers need.

    The copies are the indexes, the marks of superseded shards and the manifest.

    Raises:
        UserError: ``dest`` holds something else.
    """
    mark = {
        "source": run.store.url,
        "source_sha256": plan.digest,
        "source_parts": len(run.parts),
        "rows": plan.rows,
        "files": [file.rel for file in plan.files],
    }
    kept = dest.read_or_none(COMPACTION)
    if kept is None and next(dest.list(), None) is not None:
        raise UserError(f"DEST {dest.url} is not empty; give a folder that is new or empty")
    if not dest.publish_new(COMPACTION, (json.dumps(mark, indent=1) + "\n").encode()):
        before = json.loads(dest.read(COMPACTION))
        raise UserError(
            f"DEST {dest.url} holds the compaction of {before['source_parts']:,} part files of "
            f"{before['source']}; now there are {len(run.parts):,} of {run.store.url}, or other "
            "options, or it was begun by version 0.1: give another DEST"
        )
    for folder in (INDEX_FOLDER, SUPERSEDED):
        for entry in run.store.list(folder):
            dest.publish(entry.rel, run.store.read(entry.rel))
    if run.manifest is not None:
        dest.publish(MANIFEST, run.store.read(MANIFEST))
