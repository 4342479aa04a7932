"""An output as a DuckDB database: views over its part files, macros for its columns.

DuckDB reads the part files through :class:`~jobs.pipeline.storage.store.Store`: credentials never
reach its settings, its SQL or its messages, and no extension has to be loaded for S3.
"""

from __future__ import annotations

import datetime
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import cv2
import fsspec
import numpy as np
import pyarrow as pa

from jobs.pipeline.output.reading import LabelledRun
from jobs.pipeline.record.parts import read_part
from jobs.pipeline.record.schema import list_lengths
from jobs.pipeline.shards.reader import RangeFile, RangeReader
from jobs.pipeline.storage.store import Store, StoreError
from tddfa3.errors import UnavailableError, UserError

if TYPE_CHECKING:
    import duckdb

_SCHEME = "run://"
# DuckDB would take a path with these for a pattern.
_PATTERN = re.compile(r"[*?\[\]{}]")

BATCH_ROWS = 8192
"""Rows of a result fetched at once."""

QUALITY_AT_ZERO = 0.2
"""Where ``quality`` reaches 0, in ``quality_points``; good labels have 0.02 to 0.04."""

IMAGE_COLUMNS = (
    "image_id", "shard", "key", "image_width", "image_height", "image_sha256", "status", "error",
    "n_faces",
)  # fmt: skip
"""Columns that describe the image, equal in all its rows."""

VIEWS = {
    "faces": "labelled faces, one row each, with the derived column quality",
    "images": "images, one row each, whatever became of them, with the number of labelled faces",
    "rows": "everything that is committed as it is, with the part file it is in",
    "parts": "the face parts: label, name and bit",
}
"""The views, with what they hold."""

MACROS = {
    "landmark(points, i)": "point i (from 0) of a landmark column, as {x, y}",
    "landmarks(points)": "all points of a landmark column, as a list of {x, y}",
    "pose_angle(R1, R2)": "degrees between two poses, given as camera_R",
    "face_size(box)": "side of the square that is as large as the box, px",
    "image_pixels(n, crop_params)": "pixels of the crop as pixels of the image",
    "part_area(seg_visible, part)": "crop pixels where a part is visible",
    "part_area_full(seg, part)": "crop pixels a part covers, occlusion ignored",
}
"""The macros, with what they return."""

_MACRO_SQL = """
CREATE MACRO landmark(points, i) AS CASE WHEN points IS NULL THEN NULL ELSE
    {'x': points[2 * i + 1], 'y': points[2 * i + 2]} END;
CREATE MACRO landmarks(points) AS
    [{'x': points[2 * i + 1], 'y': points[2 * i + 2]} FOR i IN range(len(points::FLOAT[]) // 2)];
CREATE MACRO pose_angle(R1, R2) AS CASE WHEN R1 IS NULL OR R2 IS NULL THEN NULL ELSE
    degrees(acos(greatest(-1.0, least(1.0,
        (list_inner_product(R1::DOUBLE[], R2::DOUBLE[]) - 1) / 2)))) END;
CREATE MACRO face_size(box) AS sqrt((box[3] - box[1]) * (box[4] - box[2]));
CREATE MACRO image_pixels(n, crop_params) AS n / (crop_params[3] * crop_params[3]);
"""


class Database:
    """DuckDB over one output; see :data:`VIEWS` and :data:`MACROS`.

    Args:
        run: its committed parts; what is committed later is not seen.

    Attributes:
        duckdb: the module.
        connection: the connection that has the views.

    Raises:
        UnavailableError: DuckDB is not installed.
    """

    def __init__(self, run: LabelledRun) -> None:
        self.duckdb = _import_duckdb()
        self._run = run
        self.connection = self._connect()
        self._files = _StoreFiles(run.store)
        self.connection.register_filesystem(self._files)
        self._create_rows(run)
        self._create_parts(run)
        self._create_views(run)
        self.connection.execute(_MACRO_SQL)

    @contextmanager
    def batches(self, sql: str) -> Iterator[pa.RecordBatchReader]:
        """The result of the last of the statements, computed while it is fetched.

        Raises:
            UserError: DuckDB refused a statement; its message says where.
            StoreError: a part file could not be read.
        """
        self._files.error = None
        try:
            relation = self.connection.sql(sql)
            if relation is None:
                raise UserError("a statement without a result; give a SELECT")
            # DuckDB 1.x has it under another name.
            to_reader = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
            yield to_reader(BATCH_ROWS)
        except (self.duckdb.Error, pa.ArrowException, OSError) as error:
            if isinstance(error, BrokenPipeError):
                raise  # not the database's: whoever was reading the result has gone
            raise self._meaning(error) from None

    def table(self, sql: str) -> pa.Table:
        """Like :meth:`batches`, all at once."""
        with self.batches(sql) as reader:
            return reader.read_all()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _meaning(self, error: Exception) -> UserError:
        """The storage's own error where there was one, else DuckDB's message.

        DuckDB names neither a file that is gone nor one whose pages are damaged, and raises its
        base class for the latter: then the part files are searched for the culprit.
        """
        store = self._run.store
        if self._files.error is None and isinstance(error, self.duckdb.IOException):
            for part in self._run.parts:
                if not store.exists(part.rel):
                    uri = store.uri(part.rel)
                    return StoreError("not_found", uri, "this part file is no longer there")
        if self._files.error is None and type(error) is self.duckdb.Error:
            for part in self._run.parts:
                try:
                    read_part(store, part.rel)
                except UserError as found:
                    return found
        return self._files.error or UserError(str(error).replace(_SCHEME, ""))

    def _connect(self) -> duckdb.DuckDBPyConnection:
        connection = self.duckdb.connect(":memory:")
        settings = {
            # Names in SQL are views and files, never variables of this program.
            "python_enable_replacements": False,
            # No code from the network.
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            # Spill what does not fit into memory here, not into the current folder.
            "temp_directory": f"{tempfile.gettempdir()}/tddfa3-query-{os.getpid()}",
            "enable_progress_bar": False,
        }
        for name, value in settings.items():
            text = str(value).lower() if isinstance(value, bool) else _quoted(str(value))
            connection.execute(f"SET {name} = {text}")
        return connection

    def _create_rows(self, run: LabelledRun) -> None:
        prefix = self._prefix(run.store)
        if run.parts:
            files = self.connection.read_parquet(
                [prefix + part.rel for part in run.parts], filename=True, hive_partitioning=False
            )
            files.create_view("part_files")
        else:
            empty = run.schema.empty_table().append_column("filename", pa.array([], pa.string()))
            self.connection.register("part_files", empty)
        lengths = list_lengths(run.schema)
        columns = ", ".join(_typed(field, lengths.get(field.name)) for field in run.schema)
        self.connection.execute(
            f"CREATE VIEW rows AS SELECT {columns}, "
            f"substr(filename, {len(prefix) + 1}) AS part FROM part_files"
        )

    def _prefix(self, store: Store) -> str:
        """What precedes a part's name in SQL. DuckDB opens local files itself, which is faster."""
        local = store.kind == "local" and not _PATTERN.search(store.url)
        return f"{store.url.rstrip('/')}/" if local else _SCHEME

    def _create_parts(self, run: LabelledRun) -> None:
        names = run.part_names
        label_of = {name: i + 1 for i, name in enumerate(names)}
        table = {
            "label": pa.array(range(1, len(names) + 1), pa.int32()),
            "part": pa.array(names, pa.string()),
            "bit": pa.array([1 << i for i in range(len(names))], pa.int32()),
        }
        self.connection.register("parts", pa.table(table))

        def area(pngs: pa.Array, parts: pa.Array) -> pa.Array:
            return _areas(pngs, parts, label_of, lambda pixels, label: pixels == label)

        def full_area(pngs: pa.Array, parts: pa.Array) -> pa.Array:
            return _areas(pngs, parts, label_of, lambda pixels, label: pixels & (1 << (label - 1)))

        create: Any = self.connection.create_function
        for name, function in (("part_area", area), ("part_area_full", full_area)):
            create(
                name,
                function,
                ["BLOB", "VARCHAR"],
                "INTEGER",
                type="arrow",
                null_handling="special",
            )

    def _create_views(self, run: LabelledRun) -> None:
        gone = ", ".join(_quoted(shard) for shard in run.superseded)
        current = f"shard NOT IN ({gone})" if gone else "true"
        self.connection.execute(
            "CREATE VIEW faces AS SELECT *, "
            f"greatest(0, 1 - quality_points / {QUALITY_AT_ZERO})::FLOAT AS quality "
            f"FROM rows WHERE face_index IS NOT NULL AND {current}"
        )
        columns = ", ".join(IMAGE_COLUMNS)
        self.connection.execute(
            f"CREATE VIEW images AS SELECT {columns}, count(face_index)::SMALLINT AS labelled "
            f"FROM rows WHERE status <> 'shard_error' AND {current} GROUP BY {columns}"
        )


class _StoreFiles(fsspec.AbstractFileSystem):
    """A store as DuckDB wants to see files; ``error`` keeps what DuckDB passes on only as text."""

    protocol = "run"
    cachable = False

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store
        self.error: StoreError | None = None

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        name = self._strip_protocol(path)
        try:
            size, _ = self._store.size_etag(name)
        except StoreError as error:
            self.error = error
            raise
        return {"name": name, "size": size, "type": "file"}

    def modified(self, path: str) -> datetime.datetime:
        """A constant: part files are never changed while they are read."""
        return datetime.datetime.fromtimestamp(0, datetime.timezone.utc)

    def glob(self, path: str, maxdepth: int | None = None, **kwargs: Any) -> list[str]:
        """The path itself: DuckDB is given whole names only."""
        return [path]

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> _StoreFile:
        size = self.info(path)["size"]
        return _StoreFile(self, RangeReader(self._store, self._strip_protocol(path), size))


class _StoreFile(RangeFile):
    def __init__(self, files: _StoreFiles, reader: RangeReader) -> None:
        super().__init__(reader)
        self._files = files

    def read(self, count: int | None = -1, /) -> bytes:
        try:
            return super().read(count)
        except StoreError as error:
            self._files.error = error
            raise


def _areas(pngs: pa.Array, parts: pa.Array, label_of: dict[str, int], where: Any) -> pa.Array:
    areas: list[int | None] = []
    for data, part in zip(pngs.to_pylist(), parts.to_pylist(), strict=True):
        if data is None or part is None:
            areas.append(None)
            continue
        if part not in label_of:
            raise ValueError(f"no part {part!r}; there are {', '.join(label_of)}")
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)  # (H, W)
        areas.append(int(np.count_nonzero(where(pixels, label_of[part]))))
    return pa.array(areas, pa.int32())


def _typed(field: pa.Field, length: int | None) -> str:
    """The column as DuckDB should show it: lists of one length become its arrays."""
    if length is None:
        return f'"{field.name}"'
    element = {"float": "FLOAT", "double": "DOUBLE", "bool": "BOOLEAN"}[str(field.type.value_type)]
    return f'"{field.name}"::{element}[{length}] AS "{field.name}"'


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _import_duckdb() -> Any:
    try:
        import duckdb
    except ImportError:
        raise UnavailableError(
            "this needs DuckDB, which is not installed: pip install duckdb"
        ) from None
    return duckdb
