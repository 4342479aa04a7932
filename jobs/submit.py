"""Submits a labelling run to a Ray cluster, follows it, and passes its exit code on.

    python -m jobs.submit --address http://HEAD:8265 INPUT... OUTPUT [--assets DIR] [options]
    python -m jobs.submit --address http://HEAD:8265 --attach ID
    python -m jobs.submit --address http://HEAD:8265 --stop ID

Other options are those of ``jobs.label``, which then runs on the cluster's head. Paths are read on
the cluster: absolute paths on a file system that all machines see, or ``s3://``. Ctrl-C does not
stop the run; ``--stop`` does. The same command continues it.

Exit codes: those of the run; 2 bad usage, or a cluster that cannot be reached; 4 the run was
stopped or lost; 130 after Ctrl-C.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import tyro

from jobs.exits import ExitCode, run_program
from jobs.pipeline.drive.submitting import (
    DEFAULT_ADDRESS,
    PROGRAM,
    JobClient,
    connect,
    entrypoint_of,
    environment_of,
    follow,
    http_address,
    stop,
    submit,
)
from tddfa3.errors import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

NEVER_STARTED = ("RUNTIME_ENV_SETUP_FAILURE", "JOB_ENTRYPOINT_COMMAND_START_ERROR")
"""Errors before the driver ran: what was submitted is wrong, and there is no run to continue."""

_ONE_OF = tyro.conf.create_mutex_group(required=False)


def _default_address() -> str:
    return os.environ.get("RAY_API_SERVER_ADDRESS", DEFAULT_ADDRESS)


@dataclass(frozen=True)
class SubmitConfig:
    """Submit a labelling run to a Ray cluster, follow it, and pass its exit code on.

    All other words are those of python -m jobs.label: INPUT... OUTPUT and its options.
    """

    address: Annotated[
        str,
        tyro.conf.arg(
            metavar="URL",
            help_behavior_hint=f"(default: $RAY_API_SERVER_ADDRESS or {DEFAULT_ADDRESS})",
        ),
    ] = field(default_factory=_default_address)
    """The dashboard of the cluster's head."""
    attach: Annotated[str | None, _ONE_OF, tyro.conf.arg(metavar="ID")] = None
    """Follow a run that was submitted before."""
    stop: Annotated[str | None, _ONE_OF, tyro.conf.arg(metavar="ID")] = None
    """Stop a run; the same command continues it."""
    no_wait: bool = False
    """Submit and leave at once."""
    pass_env: Annotated[
        tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="NAME")
    ] = ()
    """Give the run this variable of the environment, such as AWS_ACCESS_KEY_ID; the cluster keeps
    its value with the job."""


def main(
    argv: Sequence[str] | None = None,
    program: str = PROGRAM,
    *,
    prog: str = "python -m jobs.submit",
) -> int:
    """Runs the program and returns its exit code; tests let the cluster run another ``program``."""
    options, rest = tyro.cli(
        SubmitConfig,
        prog=prog,
        args=argv,
        return_unknown_args=True,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    return run_program(lambda: serve(options, rest, program, prog), name="submit")


def serve(options: SubmitConfig, rest: Sequence[str], program: str, prog: str) -> int:
    """Submits, follows or stops, as the options say."""
    if options.stop or options.attach:
        if rest:
            raise UserError(f"--attach and --stop take no {rest[0]!r}")
    else:
        entrypoint, assets = entrypoint_of(rest, program)
        environment = environment_of(options.pass_env, os.environ)
    address = http_address(options.address)
    client = connect(address)
    if options.stop:
        print(stop(client, options.stop))
        return ExitCode.DONE
    job_id = options.attach
    if not job_id:
        job_id = submit(client, entrypoint, environment, assets)
        print(f"submitted {job_id} to {address}")
    how_to_go_on = (
        f"watch it: {prog} --address {address} --attach {job_id}\n"
        f"stop it:  {prog} --address {address} --stop {job_id}"
    )
    if options.no_wait:
        print(how_to_go_on)
        return ExitCode.DONE
    return follow_until_end(client, job_id, how_to_go_on)


def follow_until_end(client: JobClient, job_id: str, how_to_go_on: str) -> int:
    """Prints the run's output until it ends; returns its exit code. Ctrl-C leaves it running."""
    try:
        info = asyncio.run(follow(client, job_id, sys.stdout))
    except KeyboardInterrupt:
        print(f"\ndetached: {job_id} goes on\n{how_to_go_on}", file=sys.stderr)
        return ExitCode.DETACHED
    code, message = outcome(info)
    if message:
        print(f"submit: {message}", file=sys.stderr)
    return code


def outcome(info: JobDetails) -> tuple[int, str]:
    """The exit code of ``jobs.label``, or a substitute for it, and a message or ""."""
    status, code = str(info.status), info.driver_exit_code
    if status == "SUCCEEDED":
        return ExitCode.DONE, ""
    if status == "STOPPED":
        return ExitCode.STOPPED, "the run was stopped; the same command continues it"
    if code is not None and code >= 0:
        return code, ""
    if code is not None:
        name = signal.Signals(-code).name
        return (
            ExitCode.STOPPED,
            f"the driver was killed by {name}; the same command continues the run",
        )
    why = (info.message or "no reason given").strip().partition("\n")[0][:300]
    if str(info.error_type) in NEVER_STARTED:
        return ExitCode.UNUSABLE, f"the run could not be started: {why}"
    return ExitCode.STOPPED, f"the driver was lost ({why}); the same command continues the run"


if __name__ == "__main__":
    sys.exit(main())
