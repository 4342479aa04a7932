"""The doctor's checks on every machine of a cluster."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jobs.pipeline.doctor.checks import (
    Check,
    check_assets,
    check_output,
    guarded,
    machine_checks,
)
from jobs.pipeline.drive.shipping import copy_code
from tddfa3.errors import UserError

NODE_PATIENCE = 120.0
"""Seconds for all machines to answer."""


@dataclass(frozen=True)
class Question:
    """What a machine is asked to check.

    Attributes:
        device: as the label job's option.
        rasterizer: as the label job's option.
        assets: URL of the bundle.
        output: URL; empty where it is not asked about.
        s3_endpoint: the S3 server, when it is not AWS.
    """

    device: str
    rasterizer: str
    assets: str
    output: str
    s3_endpoint: str | None


def check_ray() -> Check:
    """Ray's version, and whether it wants a token."""
    import ray

    token = "token wanted" if os.environ.get("RAY_AUTH_MODE") == "token" else "no token mode set"
    return Check("ray", "ok", f"{ray.__version__}, {token}")


def check_cluster(address: str, question: Question) -> list[Check]:
    """Join the cluster and ask each of its machines; one failed check if it can't be joined."""
    import ray

    joined = guarded("cluster", lambda: join(address, question.assets))
    if joined.status == "failed":
        return [joined]
    try:
        return [joined, *_node_checks(question)]
    finally:
        ray.shutdown()


def join(address: str, assets: str) -> Check:
    """Join the cluster, with this code, and count its nodes, CPUs and GPUs."""
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


def _node_checks(question: Question) -> list[Check]:
    """The checks of all nodes, asked at once; names begin with the node's address."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(_ask_node)
    asked = {}
    for node in ray.nodes():
        if not node["Alive"]:
            continue
        # A task that asks for no GPU sees none.
        share = 0.01 if node["Resources"].get("GPU") else 0
        place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task = ask.options(num_cpus=0, num_gpus=share, scheduling_strategy=place, max_retries=0)
        is_head = "node:__internal_head__" in node["Resources"]
        label = f"{node['NodeManagerAddress']}{' (head)' if is_head else ''}"
        asked[task.remote(_for_head(question) if is_head else question)] = label
    ray.wait(list(asked), num_returns=len(asked), timeout=NODE_PATIENCE)
    checks = []
    for ref, label in asked.items():
        try:
            answers = ray.get(ref, timeout=0)
        except Exception as error:
            why = str(error).strip().partition("\n")[0][:200] or "no answer: its GPUs are all taken"
            checks.append(Check(label, "warning", f"not looked at: {why}", "ask again later"))
            continue
        checks += [replace(one, name=f"{label} {one.name}") for one in answers]
    return checks


def _for_head(question: Question) -> Question:
    """The question for the head of a GPU cluster: it labels nothing, and so needs no GPU."""
    return question if question.device == "cuda" else replace(question, device="cpu")


def _ask_node(question: Question) -> list[Check]:
    checks = machine_checks(question.device, question.rasterizer)
    return checks + storage_checks(question)


def storage_checks(question: Question) -> list[Check]:
    """Whether the machine can read the assets and write the output."""
    endpoint = question.s3_endpoint
    checks = [guarded("assets", lambda: check_assets(question.assets, endpoint))]
    if question.output:
        checks.append(guarded("output", lambda: check_output(question.output, endpoint)))
    return checks
