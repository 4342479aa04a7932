"""Parquet shards: one image a row, as Hugging Face's ``struct<bytes, path>`` or plain binary.

Indexing reads the footer and, where there are any, the image paths; image bytes are read a few rows
at a time. A row group can only be read from its beginning, so a process parks its reader after a
chunk, and the next chunk of the same row group continues from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.pipeline.shards.model import (
    MIB,
    Member,
    ReadOptions,
    Shard,
    ShardIndex,
    ShardReadError,
    printable,
    with_unique_keys,
)
from jobs.pipeline.shards.parking import Parking
from jobs.pipeline.shards.reader import RangeFile, RangeReader
from jobs.pipeline.storage.store import locate

# Rows decoded at once; few, because each may hold many MiB.
_BATCH_ROWS = 16
_DAMAGE = (pa.ArrowException, OSError, ValueError)


class BadColumn(Exception):
    """The file has no usable column of images; the text says why."""


class ImageColumn:
    """Where a Parquet file keeps its images, and what they are called.

    Attributes:
        name: the column.
        is_struct: whether it is ``struct<bytes, path>`` rather than plain binary.
        bytes_path: dotted path of the images' bytes.
        path_path: dotted path of the images' names, or None.

    Raises:
        BadColumn: ``wanted`` does not exist or holds no bytes, or several columns could be meant.
    """

    def __init__(self, schema: pa.Schema, wanted: str | None) -> None:
        name = wanted if wanted is not None else _find_column(schema)
        if name not in schema.names:
            raise BadColumn(f"no column {name!r}; there are {', '.join(schema.names)}")
        kind = schema.field(name).type
        self.name = name
        self.is_struct = pa.types.is_struct(kind)
        if not _holds_bytes(kind):
            raise BadColumn(
                f"column {name!r} is {kind}; images are binary or struct<bytes: binary, path: …>"
            )
        self.bytes_path = f"{name}.bytes" if self.is_struct else name
        self.path_path = self._find_path(schema, kind)

    def _find_path(self, schema: pa.Schema, kind: pa.DataType) -> str | None:
        if self.is_struct and kind.get_field_index("path") >= 0:
            return f"{self.name}.path"
        return "__key__" if "__key__" in schema.names else None


def index(shard: Shard, options: ReadOptions) -> ShardIndex:
    """See :class:`.shards._Format`; sizes are the row group's mean, because no image is read."""
    result = ShardIndex(shard.id)
    try:
        file = _open(shard, options)
        column = ImageColumn(file.schema_arrow, options.image_column)
    except BadColumn as error:
        result.error = str(error)
        return result
    except _DAMAGE as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        result.error = f"not a readable Parquet file ({why}), at offset {shard.size}"
        return result
    members: list[Member] = []
    for group in range(file.num_row_groups):
        try:
            members.extend(_group_members(file, column, group, len(members)))
        except _DAMAGE as error:
            result.error = f"row group {group} is damaged, at row {len(members)} ({error})"
            break
    result.members = with_unique_keys(members)
    result.end_offset = len(members)
    return result


def holds_an_image(shard: Shard, options: ReadOptions) -> bool:
    """See :class:`.shards._Format`; reads the footer only."""
    try:
        file = _open(shard, options)
        ImageColumn(file.schema_arrow, options.image_column)
    except (BadColumn, *_DAMAGE):
        return True
    return bool(file.metadata.num_rows > 0)


def read(
    shard: Shard, members: Iterable[Member], options: ReadOptions
) -> Iterator[tuple[Member, bytes | ShardReadError]]:
    """See :class:`.shards._Format`; continues a parked reader of this process, if there is one."""
    members = sorted(members, key=lambda member: member.offset)
    if not members:
        return
    key = (shard.uri, shard.etag, options.image_column)
    rows = _PARKING.take(key) or RowReader(_open(shard, options), options.image_column)
    for member in members:
        yield member, _take(rows, shard, member, options.max_member_bytes)
    _PARKING.put(key, rows)


def _take(rows: RowReader, shard: Shard, member: Member, limit: int) -> bytes | ShardReadError:
    where = (shard.id, member.name, member.offset)
    try:
        value = rows.value(member.offset)
    except _DAMAGE as error:
        return ShardReadError("unreadable", *where, f"damaged Parquet page ({error})")
    if value is None or not value.is_valid:
        return ShardReadError("unreadable", *where, "the row holds no image bytes")
    size = value.as_buffer().size
    if size > limit:
        return ShardReadError("too_large", *where, f"{size} bytes is over the limit of {limit}")
    data: bytes = value.as_py()
    return data


class RowReader:
    """Image values of a Parquet file, read row by row.

    Going forwards is cheap; going back begins the row group again.
    """

    def __init__(self, file: pq.ParquetFile, wanted: str | None) -> None:
        self._file = file
        self._column = ImageColumn(file.schema_arrow, wanted)
        self._group_ends = []
        end = 0
        for group in range(file.num_row_groups):
            end += file.metadata.row_group(group).num_rows
            self._group_ends.append(end)
        self._batches: Iterator[Any] = iter(())
        self._values: Any = None
        self._first = 0
        self._next = 0
        self._group = -1

    def value(self, row: int) -> Any:
        """The pyarrow scalar of ``row``, counted from 0 in the file."""
        group = next(g for g, end in enumerate(self._group_ends) if row < end)
        if group != self._group or row < self._first:
            self._enter(group)
        while row >= self._next:
            self._advance()
        return self._values[row - self._first]

    def _enter(self, group: int) -> None:
        self._group = -1  # stays so if the group cannot be opened
        self._batches = self._file.iter_batches(
            batch_size=_BATCH_ROWS, row_groups=[group], columns=[self._column.bytes_path]
        )
        self._first = self._next = self._group_ends[group - 1] if group else 0
        self._group = group

    def _advance(self) -> None:
        try:
            batch = next(self._batches)
        except BaseException as error:
            self._group = -1
            if isinstance(error, StopIteration):
                raise ValueError("the row group ends early") from None
            raise
        array = batch.column(0)
        self._values = array.field("bytes") if self._column.is_struct else array
        self._first = self._next
        self._next += len(array)


def _open(shard: Shard, options: ReadOptions) -> pq.ParquetFile:
    store, rel = locate(shard.uri, s3_endpoint=options.s3_endpoint)
    file = RangeFile(RangeReader(store, rel, shard.size))
    # Without pre-buffering pages are read as they are needed, not a whole column chunk at once.
    return pq.ParquetFile(pa.PythonFile(file, mode="r"), pre_buffer=False, buffer_size=MIB)


def _find_column(schema: pa.Schema) -> str:
    candidates = [field.name for field in schema if _holds_bytes(field.type)]
    if "image" in candidates:
        return "image"
    structs = [name for name in candidates if pa.types.is_struct(schema.field(name).type)]
    for names in (structs, candidates):
        if len(names) == 1:
            return str(names[0])
    why = "several columns could hold the images" if candidates else "no column holds image bytes"
    raise BadColumn(f"{why} ({', '.join(schema.names)}); name it with --image-column")


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        position = kind.get_field_index("bytes")
        return position >= 0 and _holds_bytes(kind.field(position).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _group_members(
    file: pq.ParquetFile, column: ImageColumn, group: int, first: int
) -> Iterator[Member]:
    metadata = file.metadata.row_group(group)
    count = metadata.num_rows
    names: list[str | None] = [None] * count
    if column.path_path is not None:
        table = file.read_row_group(group, columns=[column.path_path])
        values = table.column(0).combine_chunks()
        names = (values.field("path") if column.is_struct else values).to_pylist()
    size = _column_bytes(metadata, column.bytes_path) // max(1, count)
    for row, name in enumerate(names, first):
        name = name or f"{row:08d}"
        yield Member(printable(str(name)), str(name), row, size, 1)


def _column_bytes(group: Any, path: str) -> int:
    for number in range(group.num_columns):
        if group.column(number).path_in_schema == path:
            return int(group.column(number).total_uncompressed_size)
    return 0


_PARKING: Parking[tuple[str, str, str | None], RowReader] = Parking()
