"""Faults of the cluster's machines, each done to nodes that Ray holds for machines of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.faults.arena import Arena, finish
from tests.support.ray_cluster import process_tree
from tests.support.shared_ray import WORKER_ENVIRONMENT


class NodeArena(Arena):
    """An arena whose Ray is a cluster: a head without CPUs, and the nodes that a scenario adds."""

    cluster: Any


@contextmanager
def node_arena(folder: Path, ray_address: str) -> Iterator[NodeArena]:
    from ray.cluster_utils import Cluster

    before = dict(os.environ)
    os.environ.update(WORKER_ENVIRONMENT)
    head = {"num_cpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, connect=False, head_node_args=head)
    try:
        arena = NodeArena(folder, cluster.address)
        arena.cluster = cluster
        yield arena
    finally:
        cluster.shutdown()
        os.environ.clear()
        os.environ.update(before)


def nodes_killed(arena: NodeArena, times: int = 3, images: int = 60) -> None:
    """The node with the actor, raylet first, is killed with SIGKILL, three times."""
    arena.write_shard("a", images)
    node = arena.cluster.add_node(num_cpus=1)
    process = arena.start(arguments={"seconds": 0.4})
    for _ in range(times):
        arena.wait_for_parts(arena.committed() + 1, process)
        lost, node = node, arena.cluster.add_node(num_cpus=1)
        cut_power(lost)
    done = finish(process).expect(0)
    deaths = [record for record in log_of(arena) if record["event"] == "actor_died"]
    assert len(deaths) == times, done.err
    # More deaths than a chunk may have, and yet none counts: no image is tried alone or given up.
    assert all(death["node_died"] for death in deaths), deaths


def cut_power(node: Any) -> None:
    """Kills the raylet and what it started, as if the machine were gone."""
    [raylet] = node.all_processes["raylet"]
    for pid in process_tree(raylet.process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def log_of(arena: Arena) -> list[dict[str, Any]]:
    files = sorted(Path(arena.output, "_run", "logs").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


NODES: dict[str, Callable[[NodeArena], None]] = {"nodes killed": nodes_killed}
