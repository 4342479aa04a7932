"""Look at everything a labelling run needs before one is started, and say what to do about it.

    python -m jobs.doctor [--assets URL] [--input URL] [--output URL] [--ray-address ADDRESS]

With ``--ray-address`` the same questions are asked on every machine of the cluster. Exit code 0 if
a run can start (perhaps with warnings), 2 if it cannot.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from jobs.pipeline.doctor.checks import (
    Check,
    check_assets,
    check_input,
    check_output,
    guarded,
    machine_checks,
)
from jobs.submit import copy_code
from tddfa3.assets.default import OPEN
from tddfa3.errors import UserError

COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}
NODE_PATIENCE = 120.0


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    checks = examine(options)
    if options.json:
        print(json.dumps(as_json(checks), indent=2))
    else:
        show(checks, Console(highlight=False, soft_wrap=True))
    return exit_code(checks)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.doctor",
        description=(__doc__ or "").split("\n\n")[0],
        allow_abbrev=False,
    )
    parser.add_argument(
        "--assets",
        metavar="URL",
        default=OPEN,
        help="the bundle, whose digests are compared (default: the one that comes with tddfa3)",
    )
    parser.add_argument("--input", metavar="URL", help="is something there that can be read?")
    parser.add_argument("--output", metavar="URL", help="a small file is written and deleted there")
    parser.add_argument("--s3-endpoint", metavar="URL", help="the S3 server, when it is not AWS")
    parser.add_argument(
        "--ray-address", metavar="auto|HOST:PORT", help="a cluster whose machines are asked too"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--rasterizer", choices=("auto", "nvdiffrast", "cpu"), default="auto")
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser


def examine(options: argparse.Namespace) -> list[Check]:
    checks = machine_checks(options.device, options.rasterizer)
    checks.append(guarded("ray", check_ray))
    checks.append(guarded("assets", lambda: check_assets(options.assets, options.s3_endpoint)))
    if options.input:
        checks.append(guarded("input", lambda: check_input(options.input, options.s3_endpoint)))
    if options.output:
        checks.append(guarded("output", lambda: check_output(options.output, options.s3_endpoint)))
    else:
        checks.append(_not_asked("output", "--output URL"))
    if options.ray_address:
        checks += check_cluster(options)
    return checks


def _not_asked(name: str, option: str) -> Check:
    return Check(name, "warning", "not looked at", f"give {option}")


def check_ray() -> Check:
    import ray

    token = "token wanted" if os.environ.get("RAY_AUTH_MODE") == "token" else "no token mode set"
    return Check("ray", "ok", f"{ray.__version__}, {token}")


def check_cluster(options: argparse.Namespace) -> list[Check]:
    """Joins the cluster and asks each of its machines."""
    import ray

    joined = guarded("cluster", lambda: _join(options.ray_address, options.assets))
    if joined.status == "failed":
        return [joined]
    try:
        return [joined, *_node_checks(options)]
    finally:
        ray.shutdown()


def _join(address: str, assets: str) -> Check:
    import ray

    from jobs.pipeline.drive.joining import join_cluster

    try:
        with _code_for_the_nodes(assets) as code:
            join_cluster(
                address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=code
            )
    except UserError as error:
        found, _, remedy = str(error).partition("; ")
        return Check("cluster", "failed", found, remedy or "see the message")
    alive = [node for node in ray.nodes() if node["Alive"]]
    total = ray.cluster_resources()
    found = f"{len(alive)} node(s), {total.get('CPU', 0):g} CPU, {total.get('GPU', 0):g} GPU"
    if not total.get("CPU"):
        remedy = "the autoscaler adds nodes when a run asks for them; without one, start a node"
        return Check("cluster", "warning", found, remedy)
    return Check("cluster", "ok", found)


@contextmanager
def _code_for_the_nodes(assets: str) -> Iterator[dict[str, Any] | None]:
    """A runtime environment with this code, unless a submitted job has brought it along."""
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        copy_code(Path(folder), assets)
        yield {"working_dir": folder}


def _node_checks(options: argparse.Namespace) -> list[Check]:
    """The machine checks of every node, all nodes at once, each name with the node's address."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(_ask_node)
    asked = {}
    for node in ray.nodes():
        if not node["Alive"]:
            continue
        # A task that asks for no GPU is shown none.
        share = 0.01 if node["Resources"].get("GPU") else 0
        place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task = ask.options(num_cpus=0, num_gpus=share, scheduling_strategy=place, max_retries=0)
        is_head = "node:__internal_head__" in node["Resources"]
        label = f"{node['NodeManagerAddress']}{' (head)' if is_head else ''}"
        asked[task.remote(_what_to_ask(options, on_head=is_head))] = label
    ray.wait(list(asked), num_returns=len(asked), timeout=NODE_PATIENCE)
    checks = []
    for ref, label in asked.items():
        try:
            answers = ray.get(ref, timeout=0)
        except Exception as error:
            why = str(error).strip().partition("\n")[0][:200] or "no answer: its GPUs are all taken"
            checks.append(Check(label, "warning", f"not looked at: {why}", "ask again later"))
            continue
        checks += [dataclasses.replace(one, name=f"{label} {one.name}") for one in answers]
    return checks


def _what_to_ask(options: argparse.Namespace, *, on_head: bool) -> dict[str, Any]:
    """The head of a GPU cluster labels nothing, so that it needs no GPU."""
    return {
        "device": "cpu" if on_head and options.device != "cuda" else options.device,
        "rasterizer": options.rasterizer,
        "assets": options.assets,
        "output": options.output,
        "s3_endpoint": options.s3_endpoint,
    }


def _ask_node(what: dict[str, Any]) -> list[Check]:
    checks = machine_checks(what["device"], what["rasterizer"])
    checks.append(guarded("assets", lambda: check_assets(what["assets"], what["s3_endpoint"])))
    if what["output"]:
        checks.append(guarded("output", lambda: check_output(what["output"], what["s3_endpoint"])))
    return checks


def exit_code(checks: Sequence[Check]) -> int:
    return 2 if any(check.status == "failed" for check in checks) else 0


def as_json(checks: Sequence[Check]) -> dict[str, Any]:
    statuses = {check.status for check in checks}
    worst = next(status for status in ("failed", "warning", "ok") if status in statuses)
    return {"status": worst, "checks": [dataclasses.asdict(check) for check in checks]}


def show(checks: Sequence[Check], console: Console) -> None:
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
