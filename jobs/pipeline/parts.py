"""Part files: a table to the bytes of one Parquet file and back. Whole in memory, both ways.

A Parquet writer that is interrupted leaves a valid, shorter file; so nothing is written anywhere
until the bytes have been made in full and read back.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.pipeline.schema import read_metadata

# A few text columns repeat themselves; float lists gain nothing from a dictionary.
_DICTIONARY = ["shard", "status", "error"]
_FOOTER_GUESS = 64 * 1024


def encode_part(table: pa.Table) -> bytes:
    """Parquet with zstd, and byte-stream split for floats; read back before it is returned."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        use_dictionary=_DICTIONARY,
        use_byte_stream_split=_float_leaves(table.schema),
        write_statistics=True,
        store_schema=True,
    )
    data = sink.getvalue()
    rows = read_part(data).num_rows
    if rows != table.num_rows:
        raise ValueError(f"part file reads back {rows} rows of {table.num_rows}")
    return data.to_pybytes()


def read_part(data: bytes | pa.Buffer) -> pa.Table:
    """The whole table. Raises ValueError when the bytes are not a whole part file."""
    return pq.read_table(pa.BufferReader(data))


def read_footer(store: Any, rel: str, size: int) -> dict[str, Any]:
    """What a part file says about itself, from its last bytes alone."""
    start = max(0, size - _FOOTER_GUESS)
    tail = store.read(rel, start, size)
    if tail[-4:] != b"PAR1":
        raise ValueError(f"{rel}: not a whole Parquet file")
    needed = int.from_bytes(tail[-8:-4], "little") + 8
    if needed > len(tail):
        tail = store.read(rel, size - needed, size)
    # The reader checks the magic number in front of the footer only, so a file of the footer alone
    # is enough for its metadata.
    footer = pq.read_metadata(pa.BufferReader(b"PAR1" + tail[-needed:]))
    return read_metadata(footer.schema.to_arrow_schema().with_metadata(footer.metadata))


def _float_leaves(schema: pa.Schema) -> list[str]:
    leaves = []
    for field in schema:
        kind, path = field.type, field.name
        if pa.types.is_fixed_size_list(kind):
            kind, path = kind.value_type, f"{field.name}.list.element"
        if pa.types.is_floating(kind):
            leaves.append(path)
    return leaves
