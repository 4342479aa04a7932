"""Rewrites many small part files as few large ones: ``python -m jobs.compact OUTPUT DEST``.

The rows are the same, sorted by shard, key and rank, with statistics and page index. Everything
that reads OUTPUT can read DEST, which can also be uploaded to the Hugging Face hub as it is.
Meshes, textures and overlays stay where they are.

Exit codes: 0 done; 2 bad usage; 3 a part file is missing or cannot be read; 4 stopped early, the
same command continues.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from jobs.exits import ExitCode, reading_code, run_program
from jobs.pipeline.output.card import write_card
from jobs.pipeline.output.compacting import begin, compacted, encode, make_plan
from jobs.pipeline.output.reading import LabelledRun, say_if_unfinished
from jobs.pipeline.storage.store import Store
from tddfa3.errors import UserError


@dataclass(frozen=True)
class CompactConfig:
    """Many small part files into few large ones, with the same rows.

    The same command continues a compaction that was stopped.
    """

    output: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="OUTPUT")]
    """Folder with the labels, local or s3://."""
    dest: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DEST")]
    """Folder that gets the large files, local or s3://; new or empty."""
    rows_per_file: Annotated[int, tyro.conf.arg(metavar="N")] = 50_000
    """Rows in a file, at about 4 kB each; that many are held in memory."""
    s3_endpoint: Annotated[str, tyro.conf.arg(metavar="URL")] = ""
    """Endpoint of the S3 server, when it is not AWS."""


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m jobs.compact") -> int:
    """Runs the program; returns its exit code."""
    config = tyro.cli(CompactConfig, prog=prog, args=argv)
    return run_program(
        lambda: compact(config),
        code_of=reading_code,
        on_interrupt="stopped; the same command continues",
    )


def compact(config: CompactConfig) -> ExitCode:
    """Writes the files that are not there yet, and the dataset card."""
    if config.rows_per_file < 1:
        raise UserError(f"--rows-per-file {config.rows_per_file}: must be at least 1")
    endpoint = config.s3_endpoint or None
    run = LabelledRun(config.output, s3_endpoint=endpoint)
    dest = Store.open(config.dest, s3_endpoint=endpoint)
    if f"{dest.url}/".startswith(f"{run.store.url}/"):
        raise UserError(f"DEST {config.dest} lies in OUTPUT; give a folder of its own")
    say_if_unfinished(run)
    if not run.parts:
        print("nothing is committed yet; nothing written")
        return ExitCode.DONE
    plan = make_plan(run, config.rows_per_file)
    begin(run, dest, plan)
    written = 0
    for number, file in enumerate(plan.files, start=1):
        if not dest.exists(file.rel):
            dest.publish(file.rel, encode(compacted(run.store, file)))
            written += 1
        show_progress(number, len(plan.files))
    write_card(dest.url, s3_endpoint=endpoint, rel="README.md")
    before = len(plan.files) - written
    text = f"{plan.rows:,} rows of {len(run.parts):,} part files in {len(plan.files):,} files"
    print(f"{text}: {dest.url}" + (f" ({before} were there before)" if before else ""))
    return ExitCode.DONE


def show_progress(done: int, total: int) -> None:
    """Says on a terminal how many files are done."""
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r{done:,} of {total:,} files", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
