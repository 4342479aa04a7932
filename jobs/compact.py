"""Many small part files into few large ones: ``python -m jobs.compact OUTPUT DEST``.

The same rows, sorted by shard, key and rank, with statistics and page index. DEST can be read by
everything that reads OUTPUT, and uploaded to the Hugging Face hub as it is. Meshes, textures and
overlays stay where they are.

Exit codes: 0 done; 2 bad usage; 3 a part file is missing or cannot be read; 4 stopped early, the
same command continues.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from jobs.card import write_card
from jobs.pipeline.output.compacting import CompactionPlan, compacted, encode, make_plan
from jobs.pipeline.output.reading import (
    DONE,
    STOPPED,
    LabelledRun,
    exit_code,
    say_if_unfinished,
)
from jobs.pipeline.record.layout import COMPACTION, INDEX_FOLDER, MANIFEST, SUPERSEDED
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


def main(argv: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else list(argv)
    config = tyro.cli(CompactConfig, prog="python -m jobs.compact", args=arguments)
    try:
        return compact(config)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return exit_code(error)
    except KeyboardInterrupt:
        print("stopped; the same command continues", file=sys.stderr)
        return STOPPED


def compact(config: CompactConfig) -> int:
    """Writes what is not there yet."""
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
        return DONE
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
    return DONE


def show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r{done:,} of {total:,} files", end=end, file=sys.stderr, flush=True)


def begin(run: LabelledRun, dest: Store, plan: CompactionPlan) -> None:
    """Marks DEST as the compaction of this state of the run, and copies what readers need.

    Raises:
        UserError: DEST holds something else.
    """
    mark = {
        "source": run.store.url,
        "source_sha256": plan.digest,
        "source_parts": len(run.parts),
        "rows": plan.rows,
        "files": [file.rel for file in plan.files],
    }
    kept = dest.read_or_none(COMPACTION)
    if kept is None and next(dest.list(), None) is not None:
        raise UserError(f"DEST {dest.url} is not empty; give a folder that is new or empty")
    if not dest.publish_new(COMPACTION, (json.dumps(mark, indent=1) + "\n").encode()):
        before = json.loads(dest.read(COMPACTION))
        raise UserError(
            f"DEST {dest.url} holds the compaction of {before['source_parts']:,} part files of "
            f"{before['source']}; now there are {len(run.parts):,} of {run.store.url}, or other "
            "options, or it was begun by version 0.1: give another DEST"
        )
    for folder in (INDEX_FOLDER, SUPERSEDED):
        for entry in run.store.list(folder):
            dest.publish(entry.rel, run.store.read(entry.rel))
    if run.manifest is not None:
        dest.publish(MANIFEST, run.store.read(MANIFEST))


if __name__ == "__main__":
    sys.exit(main())
