"""The main job: ``python -m jobs.label INPUT... OUTPUT``.

list shards -> plan uncommitted chunks -> read, decode, label, commit (in actors) -> progress.

Exit codes: 0 all done; 2 bad usage or input, or not one image in it; 3 done, but parts of the input
could not be read; 4 stopped early, the same command continues.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jobs.exits import ExitCode, run_program
from jobs.pipeline.drive.nodes import cluster_nodes
from jobs.pipeline.drive.planning import Planner
from jobs.pipeline.drive.pool import ActorPool
from jobs.pipeline.drive.ray_session import StopRequest, ray_session
from jobs.pipeline.drive.reporting import Reporter
from jobs.pipeline.drive.scheduler import Scheduler
from jobs.pipeline.drive.sizing import PoolSize, config_on_actor, size_pool
from jobs.pipeline.label.actor import Assignment
from jobs.pipeline.label.factory import FaceLabelerFactory, LabelerFactory
from jobs.pipeline.output.card import write_card
from jobs.pipeline.record import config as configs
from jobs.pipeline.record.run import CheckedRun, Run, check_run, config_of
from tddfa3.assets.default import OPEN
from tddfa3.errors import UserError

OPEN_NOTE = (
    "the assets are `open`, which come with tddfa3 and are free to use: pose and coarse "
    "expression, not identity. 3DDFA-V3's: python -m tddfa3.assets fetch assets/3ddfa-v3, then "
    "--assets assets/3ddfa-v3"
)
"""Printed once per run with those assets."""


def main(
    argv: Sequence[str] | None = None,
    factory: LabelerFactory | None = None,
    *,
    prog: str = "python -m jobs.label",
) -> int:
    """Runs the program and returns its exit code; tests pass a factory of their own."""
    arguments = sys.argv[1:] if argv is None else argv
    return run_program(lambda: start(arguments, factory or FaceLabelerFactory(), prog))


def start(arguments: Sequence[str], factory: LabelerFactory, prog: str) -> int:
    """Reads the command line, opens the run and labels it."""
    config = configs.parse(arguments, config_of, prog=prog)
    checked = check_run(config, factory.facts(config))
    if config.assets == OPEN:
        print(f"note: {OPEN_NOTE}", file=sys.stderr)
    return label(checked, factory)


def label(checked: CheckedRun, factory: LabelerFactory) -> int:
    """Labels everything of a run that is not committed yet."""
    # The run begins only when Ray runs and an actor fits; otherwise nothing must be written.
    with ray_session(checked.config, killed_code=ExitCode.STOPPED) as stop:
        size = size_pool(checked.config, cluster_nodes())
        run = checked.begin()
        # From here on something is written, so the code is no longer UNUSABLE.
        return run_program(
            lambda: finish(run, factory, size, stop), code_of=lambda error: ExitCode.STOPPED
        )


def finish(run: Run, factory: LabelerFactory, size: PoolSize, stop: StopRequest) -> ExitCode:
    """Labels what is left of a run that has begun, and writes its card."""
    reporter = work_off(run, factory, size, stop)
    if reporter.was_stopped:
        return ExitCode.STOPPED
    describe(run)
    totals = reporter.totals
    return ExitCode.INCOMPLETE if totals.shards_in_error or totals.given_up else ExitCode.DONE


def work_off(run: Run, factory: LabelerFactory, size: PoolSize, stop: StopRequest) -> Reporter:
    """Labels all chunks that are left, until they are done or the run is stopped."""
    config = run.config
    with Reporter(run) as reporter:
        pool = ActorPool(
            Assignment.of(run, factory, size.cpus, config_on_actor(config, size)),
            size,
            wait=config.wait,
            memory_limit=config.actor_memory_gb * 2**30,
            stall=config.stall,
        )
        scheduler = Scheduler(
            run.shards,
            Planner.of(run),
            pool,
            limit=config.limit,
            stopping=stop.requested,
            resumed=run.resumed,
        )
        for event in scheduler.run():
            reporter.report(event)
        if stop.requested():
            reporter.stopped("stopped by a signal")
    return reporter


def describe(run: Run) -> None:
    """Writes the dataset card; labels are complete without it, so a failure is only a warning."""
    try:
        write_card(run.store.url, s3_endpoint=run.config.s3_endpoint or None)
    except UserError as error:
        print(f"warning: no dataset card: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
