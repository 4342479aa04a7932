"""How large the pool of actors is on which cluster."""

from __future__ import annotations

import dataclasses

import pytest

from jobs.pipeline.drive.sizing import PoolSize, config_on_actor, size_pool
from jobs.pipeline.record.config import ActorRange, LabelConfig
from tddfa3.errors import UserError

LOCAL = LabelConfig()
CLUSTER = dataclasses.replace(LOCAL, ray_address="auto")
LAPTOP = [{"CPU": 2.0}]
GPU_NODES = [{"CPU": 0.0}, {"CPU": 32.0, "GPU": 4.0}, {"CPU": 16.0, "GPU": 2.0}]


@pytest.mark.parametrize(
    ("config", "nodes", "size"),
    [
        (LOCAL, LAPTOP, PoolSize(1, 1, 2, 0)),
        (LOCAL, [{"CPU": 64.0}], PoolSize(1, 16, 4, 0)),
        (CLUSTER, GPU_NODES, PoolSize(1, 6, 8, 1)),
        (dataclasses.replace(CLUSTER, device="cpu"), GPU_NODES, PoolSize(1, 12, 4, 0)),
        (dataclasses.replace(CLUSTER, gpus_per_actor=0.5), GPU_NODES, PoolSize(1, 12, 4, 0.5)),
        (dataclasses.replace(CLUSTER, cpus_per_actor=1), GPU_NODES, PoolSize(1, 6, 1, 1)),
        (dataclasses.replace(CLUSTER, actors=ActorRange(3, 90)), GPU_NODES, PoolSize(3, 90, 8, 1)),
        (dataclasses.replace(CLUSTER, device="cuda"), [], PoolSize(1, 1, 1, 1)),
    ],
)
def test_sizes(config: LabelConfig, nodes: list[dict[str, float]], size: PoolSize) -> None:
    assert size_pool(config, nodes) == size


def test_what_no_machine_can_hold_is_refused_on_this_machine_at_once() -> None:
    config = dataclasses.replace(LOCAL, gpus_per_actor=2.0, cpus_per_actor=3)
    with pytest.raises(UserError, match=r"3 CPU and 2 GPU; no node has that .*2 CPU and 0 GPU"):
        size_pool(config, LAPTOP)


def test_a_cluster_may_still_grow() -> None:
    size = size_pool(dataclasses.replace(CLUSTER, gpus_per_actor=2.0), LAPTOP)
    assert "no node has that" in size.missing(LAPTOP)
    assert "which the cluster has" in size.missing([{"CPU": 8.0, "GPU": 2.0}])


def test_an_actor_without_a_gpu_takes_none() -> None:
    assert config_on_actor(LOCAL, PoolSize(1, 1, 1, 0)).device == "cpu"
    assert config_on_actor(LOCAL, PoolSize(1, 1, 1, 0.5)).device == "auto"
