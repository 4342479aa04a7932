"""SQL over an output: ``python -m jobs.query OUTPUT "SELECT …"``.

Exit codes: 0 done; 2 bad SQL or usage; 3 a part file is missing; 4 the storage failed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Annotated, Literal, cast

import pyarrow as pa
import tyro

from jobs.exits import ExitCode, reading_code, run_program
from jobs.pipeline.output.database import MACROS, VIEWS, Database
from jobs.pipeline.output.query_formats import WRITERS, print_table
from jobs.pipeline.output.reading import LabelledRun, say_if_unfinished
from jobs.pipeline.storage.spool import spooled
from jobs.pipeline.storage.store import locate
from tddfa3.errors import UserError

Format = Literal["table", "csv", "json", "parquet", "arrow"]
_BINARY = ("parquet", "arrow")


@dataclass(frozen=True)
class QueryConfig:
    """SQL over an output."""

    output: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="OUTPUT")]
    """Folder with the labels, local or s3://."""
    sql: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SQL")] = (
        "SELECT status, count(*) AS images FROM images GROUP BY status ORDER BY status"
    )
    """DuckDB's SQL; default: how many images there are of each status."""
    format: Format = "table"
    """How the result is written; Arrow keeps all types, Parquet those it has (an array is a list).
    In JSON and CSV binary values are base64."""
    out: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """Write the result here (local or s3://) instead of printing it; whole or not at all."""
    s3_endpoint: Annotated[str, tyro.conf.arg(metavar="URL")] = ""
    """Endpoint of the S3 server, when it is not AWS."""


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m jobs.query") -> int:
    """Runs the program; returns its exit code."""
    config = parse(argv, prog)
    return run_program(lambda: query(config), code_of=reading_code, is_piped=True)


def parse(argv: Sequence[str] | None, prog: str) -> QueryConfig:
    """Reads the command line; the help text lists views and macros."""
    lines = [f"  {name}: {what}" for name, what in VIEWS.items()]
    lines += [f"  {name}: {what}" for name, what in MACROS.items()]
    return tyro.cli(
        QueryConfig,
        prog=prog,
        args=argv,
        description="SQL over an output.\n\nViews and macros:\n" + "\n".join(lines),
    )


def query(config: QueryConfig) -> ExitCode:
    """Runs one query and writes its result."""
    if config.format in _BINARY and not config.out and sys.stdout.isatty():
        raise UserError(f"--format {config.format} is not for a terminal: give --out FILE")
    run = LabelledRun(config.output, s3_endpoint=config.s3_endpoint or None)
    say_if_unfinished(run)
    with Database(run) as database, database.batches(config.sql) as batches:
        if config.out:
            publish(config, batches)
        elif config.format == "table":
            print_table(batches)
        else:
            WRITERS[config.format](batches, cast("IO[bytes]", sys.stdout.buffer))
    return ExitCode.DONE


def publish(config: QueryConfig, batches: pa.RecordBatchReader) -> None:
    """Writes the result as one file, which appears when it is complete."""
    store, name = locate(config.out, s3_endpoint=config.s3_endpoint or None)
    with spooled(store, name) as file:
        rows = WRITERS["csv" if config.format == "table" else config.format](batches, file)
    print(f"{rows:,} rows: {store.uri(name)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
