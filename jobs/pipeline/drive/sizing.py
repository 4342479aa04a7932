"""How many actors there are, and of what size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from jobs.pipeline.drive.nodes import Resources
from jobs.pipeline.record.config import LabelConfig
from tddfa3.errors import UserError

_CPUS_OF_A_CPU_ACTOR = 4


@dataclass(frozen=True, slots=True)
class PoolSize:
    """How many actors there may be, and what each of them takes.

    Attributes:
        minimum: actors to begin with.
        maximum: actors at most.
        cpus: per actor.
        gpus: per actor; may be a fraction.
    """

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

    On GPU nodes the GPUs share the node's CPUs: decoding is what a GPU waits for.

    Raises:
        UserError: no actor fits on this machine, and it is the only one.
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
    """The config for actors: without a GPU of its own, an actor must not use one it sees."""
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
