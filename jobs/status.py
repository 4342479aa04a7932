"""Says how far a run is: ``python -m jobs.status OUTPUT``.

It reads the storage only, while the run goes on or after it.

Exit codes: 0 everything that is listed is committed; 3 something is left, or a shard could not be
read in full; 2 no run there; 4 the storage failed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Annotated, Any

import tyro

from jobs.exits import ExitCode, reading_code, run_program
from jobs.pipeline.drive.progress import duration
from jobs.pipeline.output.ledger import footers, ledgers, shards_not_listed
from jobs.pipeline.output.reading import Counts, LabelledRun
from jobs.pipeline.record.layout import LOGS
from jobs.pipeline.record.schema import failed_images
from jobs.pipeline.storage.store import Store
from tddfa3.errors import UserError

_RATE_WINDOW = 60.0
_FRESH = 30.0


@dataclass(frozen=True)
class StatusOptions:
    """How far a run is: chunks, images, faces, failures, rate, and what is left."""

    output: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="OUTPUT")]
    """Where jobs.label writes, or wrote."""
    json: bool = False
    """Print one JSON object instead of text."""
    s3_endpoint: Annotated[str, tyro.conf.arg(metavar="URL")] = ""
    """Endpoint of the S3 server, when it is not AWS."""


@dataclass
class Status:
    """How far a run is.

    Attributes:
        output: folder with the labels.
        shards: of the input.
        shards_listed: shards whose images have been listed.
        chunks: in the listed shards.
        chunks_done: chunks that are committed.
        images: in the listed shards.
        images_done: images that are committed.
        faces: committed.
        statuses: status to number of committed images.
        failed: committed images with a status of failure.
        shard_errors: shards that could not be read in full, and why.
        unreadable_parts: part files that cannot be read, and why.
        images_per_second: over the last minute of the log.
        seconds_left: None if the run is not running.
        last_sign_of_life: time of the last record in the log.
        running: whether that is recent and not the end.
    """

    output: str
    shards: int = 0
    shards_listed: int = 0
    chunks: int = 0
    chunks_done: int = 0
    images: int = 0
    images_done: int = 0
    faces: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    failed: int = 0
    shard_errors: list[str] = field(default_factory=list)
    unreadable_parts: list[str] = field(default_factory=list)
    images_per_second: float | None = None
    seconds_left: float | None = None
    last_sign_of_life: str | None = None
    running: bool = False

    @property
    def complete(self) -> bool:
        """Whether all shards are listed without errors and all their chunks are committed."""
        whole = self.shards_listed >= self.shards and self.chunks_done >= self.chunks
        return whole and not self.shard_errors and not self.unreadable_parts


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m jobs.status") -> int:
    """Runs the program; returns its exit code."""
    options = tyro.cli(StatusOptions, prog=prog, args=argv, config=(tyro.conf.FlagCreatePairsOff,))
    return run_program(lambda: show(options), code_of=reading_code, is_piped=True)


def show(options: StatusOptions) -> ExitCode:
    """Prints the status."""
    status = read_status(options.output, options.s3_endpoint or None)
    if options.json:
        print(json.dumps({**asdict(status), "complete": status.complete}))
    else:
        print("\n".join(_lines(status)))
    return ExitCode.DONE if status.complete else ExitCode.INCOMPLETE


def read_status(url: str, s3_endpoint: str | None = None) -> Status:
    """Reads the kept indexes, the footers of all parts and the last log.

    Raises:
        UserError: no run there.
        StoreError: the storage failed.
    """
    run = LabelledRun(url, s3_endpoint=s3_endpoint)
    status = Status(url)
    counts = Counts()
    for shard in ledgers(run):
        status.shards_listed += 1
        status.chunks += len(shard.chunks)
        status.chunks_done += len(shard.chunks) - len(shard.missing)
        status.images += shard.images
        if shard.error is not None:
            status.shard_errors.append(f"{shard.id}: {shard.error}")
        for about in footers(run, shard):
            if isinstance(about, UserError):
                status.unreadable_parts.append(str(about))
            else:
                counts.add(about)
    status.images_done, status.faces = counts.images, counts.faces
    status.statuses = dict(sorted(counts.statuses.items()))
    status.failed = failed_images(counts.statuses)
    left = shards_not_listed(run, status.shards_listed, status.images)
    status.shards = status.shards_listed + left
    _read_log(run.store, status)
    return status


def _read_log(store: Store, status: Status) -> None:
    """Reads the rate, and whether the run is running, from the last log file of its last start."""
    names = [entry.rel for entry in store.list(LOGS)]
    if not names:
        return
    last = max(names, key=lambda rel: (rel.split(".")[0], rel.count("."), rel))
    records = [json.loads(line) for line in store.read(last).splitlines()]
    status.last_sign_of_life = records[-1]["time"]
    end = _seconds(records[-1])
    age = datetime.now(timezone.utc).timestamp() - end
    status.running = records[-1]["event"] != "end" and age < _FRESH
    begin = max(_seconds(records[0]), end - _RATE_WINDOW)
    done = sum(
        r["images"]
        for r in records
        if r["event"] == "chunk" and not r["already_done"] and _seconds(r) > begin
    )
    if done and end > begin:
        status.images_per_second = round(done / (end - begin), 3)
        if status.running:
            left = status.images - status.images_done
            status.seconds_left = round(left / status.images_per_second, 1)


def _seconds(record: dict[str, Any]) -> float:
    return datetime.fromisoformat(record["time"].replace("Z", "+00:00")).timestamp()


def _lines(status: Status) -> list[str]:
    lines = [
        f"{status.output}: {'running' if status.running else 'not running'}, "
        f"{'complete' if status.complete else 'not complete'}",
        f"  shards  {status.shards_listed:,} of {status.shards:,} listed",
        f"  chunks  {status.chunks_done:,} of {status.chunks:,} committed",
        f"  images  {status.images_done:,} of {status.images:,}",
        f"  faces   {status.faces:,}",
        f"  failed  {status.failed:,}",
    ]
    lines += [f"    {name}: {number:,}" for name, number in status.statuses.items()]
    if status.images_per_second is not None:
        left = "" if status.seconds_left is None else f", {duration(status.seconds_left)} left"
        lines.append(f"  rate    {status.images_per_second:.1f} images/s{left}")
    lines += [f"  shard error: {text}" for text in status.shard_errors]
    lines += [f"  unreadable part: {text}" for text in status.unreadable_parts]
    return lines


if __name__ == "__main__":
    sys.exit(main())
