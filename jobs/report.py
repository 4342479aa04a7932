"""One HTML page about an output: ``python -m jobs.report OUTPUT``.

Exit codes: 0 done; 2 bad usage, or no output there; 3 done, but an object that a row names is
missing (the page says which); 4 the storage failed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import tyro

from jobs.exits import ExitCode, reading_code, run_program
from jobs.pipeline.output.reading import LabelledRun, say_if_unfinished
from jobs.pipeline.storage.store import locate
from jobs.report_page import meshes
from jobs.report_page.content import (
    MOST_MISSING_SHOWN,
    ReportConfig,
    collect,
    context,
    data,
    solids,
)
from jobs.report_page.render import render
from tddfa3.errors import UserError


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m jobs.report") -> int:
    """Runs the program; returns its exit code."""
    config = tyro.cli(ReportConfig, prog=prog, args=argv)
    return run_program(lambda: report(config), code_of=reading_code)


def report(config: ReportConfig) -> ExitCode:
    """Writes the page."""
    for name in ("sample", "gallery"):
        if getattr(config, name) < 1:
            raise UserError(f"--{name} {getattr(config, name)}: must be at least 1")
    opened = [meshes.parse_face(text) for text in config.open_face]
    store, name = locate(config.out, s3_endpoint=config.s3_endpoint or None)
    run = LabelledRun(config.output, s3_endpoint=config.s3_endpoint or None)
    say_if_unfinished(run)
    collected = collect(config, run, opened)
    solid, why_none = solids(config, run, collected, opened)
    missing = sorted({p.missing for p in collected.pictures.values() if p.missing})
    page = render(
        context(config, run, collected, missing),
        data(run, collected, solid, why_none),
    )
    store.publish(name, page)
    print(f"{store.uri(name)}: {len(page) / 1e6:.1f} MB, {len(collected.rows):,} faces pictured")
    for rel, reason in missing[:MOST_MISSING_SHOWN]:
        print(f"missing: {run.store.uri(rel)}: {reason}", file=sys.stderr)
    return ExitCode.INCOMPLETE if missing else ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
