"""Rows of chunks that a stop request left unfinished, saved so that they are not made twice.

They are no commit: readers do not look here, and the chunk's own part file replaces them. A chunk
that finds such rows takes them over by key and labels the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from jobs.pipeline.record.parts import decode_part, encode_part
from jobs.pipeline.record.rows import Row, to_table
from jobs.pipeline.record.schema import LabelSchema, read_metadata
from jobs.pipeline.shards import Shard
from jobs.pipeline.storage.store import Store


def save_partial(
    store: Store, rel: str, shard: Shard, rows: Sequence[Row], schema: LabelSchema
) -> None:
    """Save the rows of an unfinished chunk as ``rel``, with the etag of the shard's content."""
    about: dict[str, Any] = {"chunk": {"shard": shard.id, "shard_etag": shard.etag}}
    store.publish(rel, encode_part(to_table(rows, schema, about)))


def read_partial(store: Store, rel: str, shard: Shard) -> dict[str, list[Row]]:
    """Saved rows by key; empty if they are of other content, unreadable or gone."""
    data = store.read_or_none(rel)
    if data is None:
        return {}
    try:
        table = decode_part(data)
        etag = read_metadata(table.schema)["chunk"]["shard_etag"]
    except (pa.ArrowException, ValueError, KeyError, OSError):
        return {}
    return by_key(table.to_pylist()) if etag == shard.etag else {}


def by_key(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by the key of their image, in order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["key"], []).append(row)
    return found
