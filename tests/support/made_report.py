"""Outputs to report on, made out of the rows of a small run, and their pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from jobs import report
from jobs.pipeline.output.reading import LabelledRun
from jobs.pipeline.record.parts import encode_part, read_part
from jobs.pipeline.storage.store import Store

MANY = 100_000
_PARTS = 5
_HEAVY = ("seg", "coef_id", "coef_exp", "coef_alb", "coef_sh", "ldm106", "ldm106_2d", "ldm134")


def face_rows(output: Path) -> pa.Table:
    """Rows of faces alone, with what the part files say about themselves."""
    run = LabelledRun(str(output))
    table = pa.concat_tables(read_part(run.store, part.rel) for part in run.parts)
    return table.filter(pa.array([n is not None for n in table["face_index"].to_pylist()]))


def replaced(table: pa.Table, **columns: Any) -> pa.Table:
    """The table with some columns' values exchanged."""
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        field = table.schema.field(at)
        table = table.set_column(at, field, pa.array(values, field.type))
    return table


def write_output(folder: Path, *tables: pa.Table) -> Path:
    """An output of part files alone."""
    store = Store.open(str(folder))
    for number, table in enumerate(tables):
        store.publish(f"annotations/made/{number:06d}.parquet", encode_part(table))
    return folder


def many_faces(output: Path, folder: Path) -> Path:
    """100,000 faces: those of ``output`` again and again, with other names, angles and misfits.
    Made once."""
    if folder.exists():
        return folder
    faces = face_rows(output)
    few = replaced(faces, **{name: [None] * len(faces) for name in _HEAVY})
    rng, size = np.random.default_rng(0), MANY // _PARTS
    tables = []
    for part in range(_PARTS):
        keys = [f"{part}/{k:05d}.jpg" for k in range(size)]
        tables.append(
            replaced(
                few.take(rng.integers(0, len(few), size)),
                key=keys,
                image_id=[f"made/{key}" for key in keys],
                yaw=rng.normal(0, 25, size).astype(np.float32),
                quality_points=rng.lognormal(-3, 0.5, size).astype(np.float32),
            )
        )
    return write_output(folder, *tables)


def page_of(output: Path, page: Path, *options: str, code: int = 0) -> Path:
    """The page of an output; made once."""
    if not page.exists():
        assert report.main([str(output), "--out", str(page), *options]) == code
    return page
