"""Makes files of labels: ``python -m jobs.export OUTPUT DEST --where "…" --meshes pca``.

select the faces -> batches -> (in workers) rows -> rebuilt faces, photographs -> files.

Exit codes: 0 all done, also when no face matches; 2 bad usage or filter; 3 done, but something
that was named is missing or damaged; 4 stopped early, the same command continues.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from jobs.exits import ExitCode, reading_code, run_program
from jobs.pipeline.export.coco import merge
from jobs.pipeline.export.photos import photo_options
from jobs.pipeline.export.plan import (
    Batch,
    ExportConfig,
    batches,
    check,
    landmark_sets,
    needs,
    select,
)
from jobs.pipeline.export.pool import export_batches
from jobs.pipeline.export.work import BatchReport, ExportJob, coco_fragment
from jobs.pipeline.output.assets import assets_of, require_assets_of
from jobs.pipeline.output.reading import (
    LabelledRun,
    say_if_unfinished,
)
from jobs.pipeline.storage.store import Store
from tddfa3.errors import UserError

_MOST_FAILURES_SHOWN = 20


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m jobs.export") -> int:
    """Runs the program; returns its exit code."""
    config = tyro.cli(ExportConfig, prog=prog, args=argv, config=(tyro.conf.FlagCreatePairsOff,))
    return run_program(
        lambda: export(check(config)),
        code_of=reading_code,
        on_interrupt="stopped; the same command continues",
    )


def export(config: ExportConfig) -> ExitCode:
    """Exports the faces that the filter selects, except those that are there already."""
    run = LabelledRun(config.output, s3_endpoint=config.s3_endpoint or None)
    dest = open_dest(config, run)
    say_if_unfinished(run)
    picks = select(config, run)
    if not picks:
        what = f"no face matches {config.where!r}" if config.where else "there are no faces"
        print(f"{what}; nothing written")
        return ExitCode.DONE
    job = make_job(config, run, dest)
    work = list(batches(config, run, picks))
    reports = list(progress(export_batches(job, work, killed_code=ExitCode.STOPPED), work))
    if "coco" in config.mask_formats and config.layout == "files":
        complete = [coco_fragment(batch) for batch in work if dest.exists(coco_fragment(batch))]
        merge(dest, complete, job.part_names)
    return summary(reports, dest)


def open_dest(config: ExportConfig, run: LabelledRun) -> Store:
    """The store of DEST.

    Raises:
        UserError: DEST lies in OUTPUT.
    """
    dest = Store.open(config.dest, s3_endpoint=config.s3_endpoint or None)
    if f"{dest.url}/".startswith(f"{run.store.url}/"):
        raise UserError(f"DEST {config.dest} lies in OUTPUT; give a folder of its own")
    return dest


def make_job(config: ExportConfig, run: LabelledRun, dest: Store) -> ExportJob:
    """What the workers need to know.

    Raises:
        UserError: the files need the run's assets, and those given are others.
    """
    needed = needs(config, run)
    assets = config.assets or assets_of(run)
    if needed.outputs is not None:
        require_assets_of(run, assets)
    return ExportJob(
        config,
        run.store,
        run.layout,
        dest,
        landmark_sets(config, run),
        needed,
        run.part_names,
        photo_options(run, config.s3_endpoint),
        assets,
    )


def progress(reports: Iterable[BatchReport], work: Sequence[Batch]) -> Iterator[BatchReport]:
    """Passes reports on and shows the progress on stderr."""
    console = Console(stderr=True)
    # Before version 14.3, rich prints an empty line even after a bar that it does not show.
    console.quiet = not console.is_terminal
    total = sum(len(batch.picks) for batch in work)
    columns = ("faces", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    started = said = time.monotonic()
    done = 0
    with Progress(*columns, console=console, disable=console.quiet) as bar:
        task = bar.add_task("export", total=total)
        for report in reports:
            done += report.faces + len(report.failures)
            bar.update(task, completed=done)
            if console.quiet and time.monotonic() - said > 5:
                said = time.monotonic()
                rate = done / (said - started)
                print(f"{done:,} of {total:,} faces, {rate:.1f}/s", file=sys.stderr, flush=True)
            yield report


def summary(reports: Sequence[BatchReport], dest: Store) -> ExitCode:
    """Prints what was made and what is missing; returns the exit code."""
    made = [report for report in reports if not report.skipped]
    before = sum(report.faces for report in reports if report.skipped)
    failures = [failure for report in reports for failure in report.failures]
    size = sum(report.bytes for report in made)
    text = f"{sum(r.faces for r in made):,} faces, {sum(r.files for r in made):,} files, "
    text += f"{size / 1e6:,.1f} MB: {dest.url}"
    print(text + (f" ({before:,} faces were there before)" if before else ""))
    for failure in failures[:_MOST_FAILURES_SHOWN]:
        print(f"missing: {failure}", file=sys.stderr)
    if len(failures) > _MOST_FAILURES_SHOWN:
        print(f"and {len(failures) - _MOST_FAILURES_SHOWN:,} more", file=sys.stderr)
    return ExitCode.INCOMPLETE if failures else ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
