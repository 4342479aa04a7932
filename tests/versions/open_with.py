"""What a client makes of part files: ``python open_with.py CLIENT FOLDER``, in a venv of its own.

Prints one JSON object: rows, the sum of ``yaw``, how many lists ``ldm68`` has and how long they are
all together, the first of its numbers, and how many values of ``points106``, which is null in every
row, are null. Needs nothing of the project's.
"""

from __future__ import annotations

import glob
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable
from typing import Any

COLUMNS = ["yaw", "ldm68", "points106", "seg_visible"]


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    points = [list(row["ldm68"]) for row in rows if row["ldm68"] is not None]
    return {
        "rows": len(rows),
        "yaw": round(sum(row["yaw"] for row in rows if row["yaw"] is not None), 3),
        "lists": len(points),
        "numbers": sum(map(len, points)),
        "first": float(points[0][0]),
        "masks": sum(
            bytes(row["seg_visible"])[1:4] == b"PNG" for row in rows if row["seg_visible"]
        ),
        "nulls": sum(row["points106"] is None for row in rows),
    }


def digest(rows: list[dict[str, Any]]) -> str:
    """Of every value of every column."""
    text = json.dumps(rows, sort_keys=True, default=bytes.hex)
    return hashlib.sha256(text.encode()).hexdigest()


def pyarrow(files: list[str]) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    # Every column, not only those that are looked at.
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def pandas(files: list[str]) -> list[dict[str, Any]]:
    import pandas as pd

    frame = pd.concat([pd.read_parquet(file) for file in files])
    return [
        {name: None if _missing(value) else value for name, value in row.items()}
        for row in frame[COLUMNS].to_dict("records")
    ]


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def datasets(files: list[str]) -> list[dict[str, Any]]:
    from datasets import load_dataset

    with tempfile.TemporaryDirectory() as cache:
        rows = load_dataset("parquet", data_files=files, split="train", cache_dir=cache)
        return list(rows)


def streamed_datasets(files: list[str]) -> list[dict[str, Any]]:
    from datasets import load_dataset

    return list(load_dataset("parquet", data_files=files, split="train", streaming=True))


def polars(files: list[str]) -> list[dict[str, Any]]:
    import polars as pl

    return pl.read_parquet(files).to_dicts()


def duckdb(files: list[str]) -> list[dict[str, Any]]:
    import duckdb

    found = duckdb.sql(f"SELECT * FROM read_parquet({files!r})")
    names = found.columns
    return [dict(zip(names, row)) for row in found.fetchall()]  # noqa: B905


def daft(files: list[str]) -> list[dict[str, Any]]:
    import daft

    return daft.read_parquet(files).to_pylist()


def deltalake(files: list[str]) -> list[dict[str, Any]]:
    import pyarrow.dataset as ds
    from deltalake import DeltaTable, write_deltalake

    with tempfile.TemporaryDirectory() as folder:
        write_deltalake(folder, ds.dataset(files).to_table())
        return DeltaTable(folder).to_pyarrow_table().to_pylist()


def lancedb(files: list[str]) -> list[dict[str, Any]]:
    import lancedb
    import pyarrow.dataset as ds

    table = ds.dataset(files).to_table().replace_schema_metadata(None)
    with tempfile.TemporaryDirectory() as folder:
        return lancedb.connect(folder).create_table("rows", table).to_arrow().to_pylist()


def chdb(files: list[str]) -> list[dict[str, Any]]:
    import chdb

    rows = []
    for file in files:
        names = ", ".join(name for name in COLUMNS if name != "seg_visible")
        sql = f"SELECT {names}, hex(seg_visible) AS seg_visible FROM file('{file}', Parquet)"
        text = str(chdb.query(sql, "JSONEachRow"))
        rows += [json.loads(line) for line in text.splitlines()]
    for row in rows:
        # ClickHouse has no null arrays: they are empty ones.
        row["ldm68"], row["points106"] = row["ldm68"] or None, row["points106"] or None
        row["seg_visible"] = bytes.fromhex(row["seg_visible"] or "")
    return rows


def spark(files: list[str]) -> list[dict[str, Any]]:
    from pyspark.sql import SparkSession

    session = SparkSession.builder.master("local[1]").config("spark.ui.enabled", False)
    started = session.getOrCreate()
    rows = [row.asDict() for row in started.read.parquet(*files).collect()]
    started.stop()
    return rows


CLIENTS: dict[str, Callable[[list[str]], list[dict[str, Any]]]] = {
    "pyarrow": pyarrow,
    "pandas": pandas,
    "datasets": datasets,
    "streamed datasets": streamed_datasets,
    "polars": polars,
    "duckdb": duckdb,
    "daft": daft,
    "deltalake": deltalake,
    "lancedb": lancedb,
    "chdb": chdb,
    "spark": spark,
}

if __name__ == "__main__":
    found = sorted(glob.glob(f"{sys.argv[2]}/annotations/**/*.parquet", recursive=True))
    rows = CLIENTS[sys.argv[1]](found)
    more = {"digest": digest(rows)} if sys.argv[1] == "pyarrow" else {}
    print(json.dumps(summary(rows) | more))
