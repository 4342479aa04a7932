"""Part files: a table to the bytes of one Parquet file and back. Whole in memory, both ways.

A Parquet writer that is interrupted leaves a valid, shorter file; so nothing is written anywhere
until the bytes have been made in full and read back.

Part files hold nothing that only some readers understand. Parquet's lists have no fixed size; Arrow
can keep one beside them (``ARROW:schema`` in the file metadata), but pyarrow before 26 fails at the
first null if it finds one there. So no Arrow schema is written, and the one in files of version 0.1
is ignored when they are read. Floats are not split into byte streams either: that saves 4 % of a
file, and pyarrow 16.0 and older Sparks cannot read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.pipeline.record.schema import FILTERED, read_metadata
from jobs.pipeline.storage.store import Store
from tddfa3.errors import UserError

if TYPE_CHECKING:
    import pyarrow.compute as pc

# A few text columns repeat themselves; float lists gain nothing from a dictionary.
_DICTIONARY = ["shard", "status", "error"]
_FOOTER_GUESS = 64 * 1024
_MAGIC = b"PAR1"
_ARROW_SCHEMA, _PASSED_OVER = b"ARROW:schema", b"arrow:schema"


class UnreadableError(UserError):
    """A Parquet file of an output exists but cannot be read.

    Attributes:
        uri: the file.
        reason: why, for a person.
    """

    def __init__(self, uri: str, reason: str) -> None:
        # Pickle calls the class with these arguments again.
        super().__init__(uri, reason)
        self.uri = uri
        self.reason = reason

    @classmethod
    def of(cls, uri: str, error: Exception) -> UnreadableError:
        """The error for what pyarrow raised about ``uri``."""
        reason = str(error).partition("\n")[0]
        return cls(uri, f"cannot read with pyarrow {pa.__version__}: {reason}")

    def __str__(self) -> str:
        return f"{self.uri}: {self.reason}"


def encode_part(
    table: pa.Table, *, rows_per_group: int | None = None, order: Sequence[str] = ()
) -> memoryview:
    """Parquet with zstd and statistics of what people filter by; read back before it is returned.

    Args:
        table: with its metadata.
        rows_per_group: a reader's unit of work; None: one group. With it the file has a page index,
            so that a filter skips pages, too.
        order: columns that the rows are sorted by, ascending.

    Raises:
        ValueError: the file reads back with another number of rows.
    """
    sink = pa.BufferOutputStream()
    columns = [table.schema.get_field_index(name) for name in order]
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="zstd",
        use_dictionary=_DICTIONARY,
        write_statistics=[name for name in FILTERED if name in table.schema.names],
        write_page_index=rows_per_group is not None,
        sorting_columns=[pq.SortingColumn(column) for column in columns] or None,
        store_schema=False,
    ) as writer:
        writer.write_table(table, rows_per_group or max(1, table.num_rows))
        # Without a stored Arrow schema, the metadata must be added explicitly.
        writer.add_key_value_metadata(table.schema.metadata)
    data = memoryview(sink.getvalue())
    # By batches: a large file is not held a second time.
    batches = pq.ParquetFile(pa.BufferReader(data)).iter_batches()
    rows = sum(batch.num_rows for batch in batches)
    if rows != table.num_rows:
        raise ValueError(f"part file reads back {rows} rows of {table.num_rows}")
    return data


def decode_part(
    data: bytes | memoryview,
    columns: Sequence[str] | None = None,
    where: pc.Expression | None = None,
) -> pa.Table:
    """The table, or the columns and rows of it that are asked for; lists have no fixed size.

    Raises:
        ValueError: the bytes are not a whole part file.
        OSError: the same; pyarrow raises either.
    """
    names = None if columns is None else list(columns)
    source = pa.BufferReader(_without_arrow_schema(data))
    table = pq.read_table(source, columns=names, filters=where)
    return table.replace_schema_metadata(_kept(table.schema.metadata))


def read_part(
    store: Store,
    rel: str,
    columns: Sequence[str] | None = None,
    where: pc.Expression | None = None,
) -> pa.Table:
    """:func:`decode_part` of a file in a store.

    Raises:
        UnreadableError: it is damaged, or this pyarrow cannot read it.
        StoreError: it is gone, or the storage failed.
    """
    data = store.read(rel)
    try:
        return decode_part(data, columns, where)
    except (ValueError, OSError, pa.ArrowException) as error:
        raise UnreadableError.of(store.uri(rel), error) from None


def read_about(store: Store, rel: str, size: int) -> dict[str, Any]:
    """What a part file says about itself, read from its last bytes alone.

    Raises:
        UnreadableError: as for :func:`read_part`; also for a later format.
        StoreError: as for :func:`read_part`.
    """
    try:
        return read_metadata(read_schema(store, rel, size))
    except (ValueError, KeyError) as error:
        raise UnreadableError.of(store.uri(rel), error) from None


def read_schema(store: Store, rel: str, size: int) -> pa.Schema:
    """Schema and metadata of a Parquet file, read from its last bytes alone.

    Raises:
        UnreadableError: as for :func:`read_part`.
        StoreError: as for :func:`read_part`.
    """
    try:
        start = max(0, size - _FOOTER_GUESS)
        tail = store.read(rel, start, size)
        needed = _footer_size(tail)
        if needed > len(tail):
            tail = store.read(rel, size - needed, size)
        # The reader checks the magic number in front of the footer only, so a file of the footer
        # alone is enough for its metadata.
        footer = _without_arrow_schema(_MAGIC + tail[-needed:])
        schema = pq.read_schema(pa.BufferReader(footer))
        return schema.with_metadata(_kept(schema.metadata))
    except (ValueError, OSError, pa.ArrowException) as error:
        raise UnreadableError.of(store.uri(rel), error) from None


def _without_arrow_schema(data: bytes | memoryview) -> bytes | memoryview:
    """The same file with the key of the Arrow schema renamed in its footer, if it has one."""
    view = memoryview(data)
    start = len(view) - _footer_size(view)
    footer = bytes(view[max(0, start) :])
    # An image's key may contain the same text: only parsing the footer tells them apart.
    if _ARROW_SCHEMA not in footer:
        return data
    if _ARROW_SCHEMA not in pq.read_metadata(pa.BufferReader(_MAGIC + footer)).metadata:
        return data
    # Nothing but metadata follows, so the last one is the key.
    before, _, after = footer.rpartition(_ARROW_SCHEMA)
    return b"".join([view[:start], before, _PASSED_OVER, after])


def _kept(metadata: Mapping[bytes, bytes] | None) -> dict[bytes, bytes]:
    return {name: text for name, text in (metadata or {}).items() if name != _PASSED_OVER}


def _footer_size(tail: bytes | memoryview) -> int:
    """Bytes of the footer with its length and magic number.

    Raises:
        ValueError: the file does not end in a footer.
    """
    if bytes(tail[-4:]) != _MAGIC:
        raise ValueError("not a whole Parquet file")
    return int.from_bytes(tail[-8:-4], "little") + 8
