"""A query's result as text for a person, or as a file for a program; streamed batch by batch.

CSV and JSON are written here because pyarrow's CSV writer refuses lists, and DuckDB's COPY writes
NaN into JSON, where no other reader takes it, and lists and structs into CSV that are not JSON.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

MOST_TABLE_ROWS = 1000
"""Most rows printed on a terminal; the rest is only counted."""
_MOST_LIST_ITEMS = 6
_MOST_BYTES_SHOWN = 8


def print_table(batches: pa.RecordBatchReader) -> None:
    """Print a table with as many rows as a person reads, and the number of the rest."""
    width = None if sys.stdout.isatty() else 10_000
    console = Console(width=width, highlight=False)
    names = batches.schema.names
    table = Table(box=None, pad_edge=False)
    for field in batches.schema:
        numeric = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        table.add_column(field.name, justify="right" if numeric else "left", overflow="fold")
    total = 0
    for batch in batches:
        shown = batch.slice(0, max(0, MOST_TABLE_ROWS - total))
        for row in shown.to_pylist():
            # Escaped, because rich takes brackets for markup.
            table.add_row(*(_escaped(_cell(row[name])) for name in names))
        total += batch.num_rows
    console.print(table)
    rest = f", {MOST_TABLE_ROWS:,} shown; --format csv gives all" if total > MOST_TABLE_ROWS else ""
    console.print(f"({total:,} row{'' if total == 1 else 's'}{rest})")


def write_csv(batches: pa.RecordBatchReader, sink: IO[bytes]) -> int:
    """Write RFC 4180 with a header; lists and structs are JSON. Returns the number of rows."""
    text = io.TextIOWrapper(sink, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(batches.schema.names)
    rows = 0
    for batch in batches:
        columns = batch.to_pydict().values()
        writer.writerows([_flat(value) for value in row] for row in zip(*columns, strict=True))
        rows += batch.num_rows
    text.flush()
    text.detach()
    return rows


def write_json(batches: pa.RecordBatchReader, sink: IO[bytes]) -> int:
    """Write one array of objects, an object a line. Returns the number of rows."""
    rows = 0
    for row in _rows(batches):
        sink.write(b"[\n" if rows == 0 else b",\n")
        sink.write(json.dumps(_finite(row), default=_plain, ensure_ascii=False).encode("utf-8"))
        rows += 1
    sink.write(b"\n]\n" if rows else b"[]\n")
    return rows


def write_parquet(batches: pa.RecordBatchReader, sink: IO[bytes]) -> int:
    """Write Parquet's types alone, as part files have them: arrays become lists.

    Returns:
        The number of rows.
    """
    rows = 0
    with pq.ParquetWriter(sink, batches.schema, compression="zstd", store_schema=False) as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def write_arrow(batches: pa.RecordBatchReader, sink: IO[bytes]) -> int:
    """Write Arrow's IPC stream. Returns the number of rows."""
    rows = 0
    with pa.ipc.new_stream(sink, batches.schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


WRITERS: dict[str, Callable[[pa.RecordBatchReader, IO[bytes]], int]] = {
    "csv": write_csv,
    "json": write_json,
    "parquet": write_parquet,
    "arrow": write_arrow,
}
"""By the name of ``--format``; each returns the number of rows written."""


def _rows(batches: Iterable[pa.RecordBatch]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        yield from batch.to_pylist()


def _plain(value: Any) -> Any:
    """A value that JSON cannot express: bytes as base64, times and decimals as text."""
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else str(value)


def _finite(value: Any) -> Any:
    """The value with null for NaN and infinity, which JSON cannot express either."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return value


def _flat(value: Any) -> Any:
    if isinstance(value, (list, dict)):
        return json.dumps(_finite(value), default=_plain, ensure_ascii=False)
    return _plain(value) if isinstance(value, bytes) else value


def _cell(value: Any) -> str:
    """Short enough for a table: the beginning of long lists, the size of binary values."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes {value[:_MOST_BYTES_SHOWN].hex()}>"
    if isinstance(value, list):
        shown = ", ".join(_cell(item) for item in value[:_MOST_LIST_ITEMS])
        rest = len(value) - _MOST_LIST_ITEMS
        return f"[{shown}, … {rest} more]" if rest > 0 else f"[{shown}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_cell(item)}" for name, item in value.items()) + "}"
    return str(value)


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")
