"""The cast that docs/recipes.md shows, for any schema."""

from __future__ import annotations

import pyarrow as pa

from jobs.pipeline.record.schema import list_lengths


def with_fixed_lists(schema: pa.Schema) -> pa.Schema:
    """The same columns, with lists of one length as Arrow's fixed-size lists."""
    lengths = list_lengths(schema)
    fields = [
        pa.field(f.name, pa.list_(f.type.value_type, lengths[f.name])) if f.name in lengths else f
        for f in schema
    ]
    return pa.schema(fields, schema.metadata)
