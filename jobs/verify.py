"""Proves that images in = ok + no_face + failed: ``python -m jobs.verify OUTPUT``.

Opens every part file, compares its rows with the kept list of its chunk, checks existence and
digest of every object that a row names, and reports missing and orphaned objects.

Exit codes: 0 proved; 1 something contradicts it, or a part file cannot be read; 3 nothing does, but
the run is not complete, or a shard could not be read in full; 2 no run there; 4 the storage failed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from jobs.exits import ExitCode, reading_code, run_program
from jobs.pipeline.output.ledger import ledgers, shards_not_listed
from jobs.pipeline.output.proof import Proof, Prover
from jobs.pipeline.output.reading import LabelledRun

_MOST_LINES = 20


@dataclass(frozen=True)
class VerifyOptions:
    """Prove that every image of a run has its rows, once, and that every object is there."""

    output: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="OUTPUT")]
    """Where jobs.label writes, or wrote."""
    json: bool = False
    """Print one JSON object instead of text."""
    no_digests: bool = False
    """Check that objects are there and how large they are, without reading them."""
    s3_endpoint: Annotated[str, tyro.conf.arg(metavar="URL")] = ""
    """Endpoint of the S3 server, when it is not AWS."""


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m jobs.verify") -> int:
    """Runs the program; returns its exit code."""
    options = tyro.cli(VerifyOptions, prog=prog, args=argv, config=(tyro.conf.FlagCreatePairsOff,))
    return run_program(lambda: show(options), code_of=reading_code, is_piped=True)


def show(options: VerifyOptions) -> ExitCode:
    """Prints the proof, or what contradicts it."""
    proof, unlisted = verify(
        options.output, options.s3_endpoint or None, digests=not options.no_digests
    )
    if options.json:
        print(json.dumps({**proof.as_dict(), "shards_not_listed": unlisted}))
    else:
        print("\n".join(_lines(proof, unlisted)))
    if proof.problems or proof.unreadable:
        return ExitCode.CONTRADICTED
    complete = proof.proved and not unlisted and not proof.shard_errors
    return ExitCode.DONE if complete else ExitCode.INCOMPLETE


def verify(url: str, s3_endpoint: str | None = None, *, digests: bool = True) -> tuple[Proof, int]:
    """The proof, and how many shards of the input have not been listed yet.

    Raises:
        UserError: no run there.
        StoreError: the storage failed.
    """
    run = LabelledRun(url, s3_endpoint=s3_endpoint)
    prover = Prover(run.store, digests=digests)
    listed = 0
    for shard in ledgers(run):
        prover.add(shard)
        listed += 1
    proof = prover.finish()
    return proof, shards_not_listed(run, listed, proof.images_listed)


def _lines(proof: Proof, unlisted: int) -> list[str]:
    equal = "=" if proof.images_listed == proof.ok + proof.no_face + proof.failed else "!="
    lines = [
        f"images in {proof.images_listed:,} {equal} ok {proof.ok:,} + no_face {proof.no_face:,} "
        f"+ failed {proof.failed:,}",
        f"{proof.parts:,} part files, {proof.faces:,} faces, {proof.objects:,} objects",
    ]
    if unlisted:
        lines.append(f"{unlisted:,} shards are not listed yet")
    for title, items in (
        ("problem", proof.problems),
        ("unreadable", proof.unreadable),
        ("shard error", proof.shard_errors),
        ("missing", proof.missing),
        ("orphan", proof.orphans),
    ):
        lines += [f"{title}: {item}" for item in items[:_MOST_LINES]]
        if len(items) > _MOST_LINES:
            lines.append(f"{title}: and {len(items) - _MOST_LINES:,} more")
    if proof.problems:
        lines.append("contradicted")
    elif proof.unreadable:
        lines.append("not proved: there are part files that cannot be read")
    else:
        complete = proof.proved and not unlisted and not proof.shard_errors
        lines.append("proved" if complete else "not complete")
    return lines


if __name__ == "__main__":
    sys.exit(main())
