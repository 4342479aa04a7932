"""How many actors of which size, and the actors themselves: started, ready, busy, dead."""

from __future__ import annotations

import math
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ray

from jobs.pipeline.drive.work import Work
from jobs.pipeline.label.actor import ActorInfo, Assignment, LabelActor
from jobs.pipeline.record.config import LabelConfig
from tddfa3.errors import UserError

# Threads in an actor that Ray calls methods in: two chunks, one for a chunk on its way out, one for
# questions.
_CONCURRENCY = 4
_CPUS_OF_A_CPU_ACTOR = 4
_CONNECT_SECONDS = 2.0

Resources = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class PoolSize:
    """``minimum`` to ``maximum`` actors of ``cpus`` and ``gpus`` each."""

    minimum: int
    maximum: int
    cpus: int
    gpus: float

    def fitting(self, nodes: Sequence[Resources]) -> int:
        """How many such actors the nodes can hold together."""
        return sum(_fitting(node, self.cpus, self.gpus) for node in nodes)

    def missing(self, nodes: Sequence[Resources]) -> str:
        """Why no actor is ready, as far as resources tell, for a person."""
        asked = f"an actor asks for {self.cpus} CPU and {self.gpus:g} GPU"
        if self.fitting(nodes) > 0:
            return f"{asked}, which the cluster has; it is starting, or others use them"
        have = [f"{node.get('CPU', 0):g} CPU and {node.get('GPU', 0):g} GPU" for node in nodes]
        shown = "; ".join(have[:8]) + ("; ..." if len(have) > 8 else "")
        return f"{asked}; no node has that (nodes have {shown or 'nothing'})"


def size_pool(config: LabelConfig, nodes: Sequence[Resources]) -> PoolSize:
    """The pool for a config on a cluster of ``nodes``.

    On GPU nodes the node's CPUs are shared by its GPUs: decoding is what a GPU waits for.
    """
    gpus = _gpus_per_actor(config, nodes)
    cpus = config.cpus_per_actor or _cpus_per_actor(gpus, nodes)
    low, high = config.actors
    size = PoolSize(low, high or low, cpus, gpus)
    if high is None:
        size = PoolSize(low, max(low, size.fitting(nodes)), cpus, gpus)
    if config.ray_address == "local" and size.fitting(nodes) == 0:
        raise UserError(f"no actor fits on this machine: {size.missing(nodes)}")
    return size


def config_on_actor(config: LabelConfig, size: PoolSize) -> LabelConfig:
    """An actor that was given no GPU must not take one that it happens to see."""
    return replace(config, device="cpu") if size.gpus == 0 else config


def _gpus_per_actor(config: LabelConfig, nodes: Sequence[Resources]) -> float:
    if config.gpus_per_actor >= 0:
        return config.gpus_per_actor
    there_are = any(node.get("GPU", 0) >= 1 for node in nodes)
    return float(config.device == "cuda" or (config.device == "auto" and there_are))


def _cpus_per_actor(gpus: float, nodes: Sequence[Resources]) -> int:
    if gpus > 0:
        shares = [n.get("CPU", 0) / n["GPU"] * gpus for n in nodes if n.get("GPU", 0) >= gpus]
    else:
        shares = [min(_CPUS_OF_A_CPU_ACTOR, n.get("CPU", 0)) for n in nodes if n.get("CPU", 0) >= 1]
    return max(1, math.floor(min(shares, default=1)))


def _fitting(node: Resources, cpus: int, gpus: float) -> int:
    by_cpu = math.floor(node.get("CPU", 0) / cpus)
    if gpus == 0:
        return by_cpu
    by_gpu = math.floor(node.get("GPU", 0) / gpus + 1e-6)
    return min(by_cpu, by_gpu)


def cluster_nodes() -> list[Resources]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def node_is_alive(node_id: str) -> bool:
    return any(node["NodeID"] == node_id and node["Alive"] for node in ray.nodes())


def node_answers(node_id: str) -> bool:
    """Whether the node's raylet can be connected to.

    The cluster's head takes up to half a minute to notice that a node is gone; the driver hears of
    its actors' deaths at once.
    """
    doors = [
        (node["NodeManagerAddress"], node["NodeManagerPort"])
        for node in ray.nodes()
        if node["NodeID"] == node_id and node["Alive"]
    ]
    try:
        for door in doors:
            socket.create_connection(door, timeout=_CONNECT_SECONDS).close()
    except OSError:
        return False
    return bool(doors)


@dataclass(slots=True, eq=False)
class ActorSlot:
    """One actor. It may still be waiting for resources or building; then ``info`` is None.

    ``node_answered``: its node's raylet could be connected to, so that it means something if it no
    longer can.
    """

    handle: Any
    setup: ray.ObjectRef
    info: ActorInfo | None = None
    busy: dict[ray.ObjectRef, Work] = field(default_factory=dict)
    retiring: bool = False
    node_answered: bool = False

    @property
    def ready(self) -> bool:
        return self.info is not None and not self.retiring

    def send(self, work: Work) -> None:
        position = work.probing
        if position is None:
            ref = self.handle.label_chunk.remote(work.current_order())
        else:
            ref = self.handle.probe.remote(work.current_order(), position)
        self.busy[ref] = work

    def kill(self) -> None:
        ray.kill(self.handle, no_restart=True)


def start_actor(size: PoolSize, assignment: Assignment) -> ActorSlot:
    """Asks Ray for an actor; until the cluster has room for it, it is demand that autoscalers see.

    Ray never restarts it: a death is to be seen, and counted, by the scheduler.
    """
    options: dict[str, Any] = {
        "num_cpus": size.cpus,
        "num_gpus": size.gpus,
        "max_restarts": 0,
        "max_task_retries": 0,
        "max_concurrency": _CONCURRENCY,
    }
    actor_class: Any = ray.remote(LabelActor)
    handle = actor_class.options(**options).remote()
    return ActorSlot(handle, handle.setup.remote(assignment))
