"""Runs as version 0.1 left them: names with ``%``, lists of a fixed size in the Arrow schema.

Compared once with a run that version 0.1.0 itself made; ``tests/data/part-format-1.parquet`` is a
part file of it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.pipeline.record import run
from jobs.pipeline.record.parts import decode_part
from jobs.pipeline.record.schema import METADATA_KEY
from tests.support.fixed_lists import with_fixed_lists
from tests.support.labelled import label


def label_as_version_1(folder: Path, chunks: int | None = None, **options: Any) -> Path:
    """:func:`labelled.label` by version 0.1."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "LAYOUT_VERSION", 1)
        out = label(folder, chunks, **options)
    for part in (out / "annotations").rglob("*.parquet"):
        write_version_1(decode_part(part.read_bytes()), part)
    return out


def write_version_1(table: pa.Table, path: Path) -> None:
    schema = with_fixed_lists(table.schema)
    about = json.loads(table.schema.metadata[METADATA_KEY]) | {"format": 1}
    for field in schema:
        if pa.types.is_fixed_size_list(field.type):
            described = about["columns"][field.name]
            length = described.pop("length")
            described["type"] = f"fixed_size_list<item: {field.type.value_type}>[{length}]"
    metadata = table.schema.metadata | {METADATA_KEY: json.dumps(about).encode()}
    pq.write_table(table.cast(schema.with_metadata(metadata)), path, compression="zstd")
