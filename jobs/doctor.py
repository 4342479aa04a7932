"""Checks everything that a labelling run needs before it is started, and says what to do.

    python -m jobs.doctor [--assets URL] [--input URL] [--output URL] [--ray-address ADDRESS]

With ``--ray-address`` the same checks are made on every machine of the cluster. Exit code 0 if a
run can start (perhaps with warnings), 2 if it cannot.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.text import Text

from jobs.exits import ExitCode, run_program
from jobs.pipeline.doctor.checks import Check, check_input, guarded, machine_checks
from jobs.pipeline.doctor.cluster import Question, check_cluster, check_ray, storage_checks
from tddfa3.assets.default import OPEN

COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}


@dataclass(frozen=True)
class DoctorConfig:
    """Look at everything a labelling run needs before one is started, and say what to do.

    With --ray-address the same questions are asked on every machine of the cluster.
    """

    assets: Annotated[
        str,
        tyro.conf.arg(
            metavar="URL", help_behavior_hint="(default: the one that comes with tddfa3)"
        ),
    ] = OPEN
    """The bundle, whose digests are compared."""
    input: Annotated[str, tyro.conf.arg(metavar="URL")] = ""
    """Is something there that can be read?"""
    output: Annotated[str, tyro.conf.arg(metavar="URL")] = ""
    """A small file is written and deleted there."""
    s3_endpoint: Annotated[str, tyro.conf.arg(metavar="URL")] = ""
    """The S3 server, when it is not AWS."""
    ray_address: Annotated[str, tyro.conf.arg(metavar="auto|HOST:PORT")] = ""
    """A cluster whose machines are asked too."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """As of the label job."""
    rasterizer: Literal["auto", "nvdiffrast", "cpu"] = "auto"
    """As of the label job."""
    json: bool = False
    """For programs."""


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m jobs.doctor") -> int:
    """Runs the program; returns its exit code."""
    config = tyro.cli(DoctorConfig, prog=prog, args=argv, config=(tyro.conf.FlagCreatePairsOff,))
    return run_program(lambda: report(config), is_piped=True)


def report(config: DoctorConfig) -> ExitCode:
    """Makes all checks and prints them."""
    checks = examine(config)
    if config.json:
        print(json.dumps(as_json(checks), indent=2))
    else:
        show(checks, Console(highlight=False, soft_wrap=True))
    return exit_code(checks)


def examine(config: DoctorConfig) -> list[Check]:
    """The results of all checks that the options ask for."""
    endpoint = config.s3_endpoint or None
    question = Question(config.device, config.rasterizer, config.assets, config.output, endpoint)
    checks = machine_checks(config.device, config.rasterizer)
    checks.append(guarded("ray", check_ray))
    if config.input:
        checks.append(guarded("input", lambda: check_input(config.input, endpoint)))
    checks += storage_checks(question)
    if not config.output:
        checks.append(Check("output", "warning", "not looked at", "give --output URL"))
    if config.ray_address:
        checks += check_cluster(config.ray_address, question)
    return checks


def exit_code(checks: Sequence[Check]) -> ExitCode:
    """:data:`ExitCode.UNUSABLE` if a run could not start."""
    failed = any(check.status == "failed" for check in checks)
    return ExitCode.UNUSABLE if failed else ExitCode.DONE


def as_json(checks: Sequence[Check]) -> dict[str, Any]:
    """The worst status and all checks, for JSON."""
    statuses = {check.status for check in checks}
    worst = next(status for status in ("failed", "warning", "ok") if status in statuses)
    return {"status": worst, "checks": [dataclasses.asdict(check) for check in checks]}


def show(checks: Sequence[Check], console: Console) -> None:
    """Prints the checks and a verdict for people."""
    width = max(len(check.name) for check in checks)
    for check in checks:
        line = Text(f"{check.status:<8}", style=COLOURS[check.status])
        line.append(f" {check.name:<{width}}  {check.found}", style="default")
        console.print(line)
        if check.remedy:
            console.print(Text(f"{'':<8} {'':<{width}}  -> {check.remedy}", style="bold"))
    failed = sum(check.status == "failed" for check in checks)
    verdict = f"{failed} check(s) failed: a run would not start" if failed else "a run can start"
    console.print(Text(verdict, style="bold"))


if __name__ == "__main__":
    sys.exit(main())
