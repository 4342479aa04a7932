"""Machines of the cluster: which there are, and whether one still answers."""

from __future__ import annotations

import socket
from collections.abc import Mapping

import ray

Resources = Mapping[str, float]
"""What a node has in all, by Ray's names (CPU, GPU)."""

_CONNECT_SECONDS = 2.0


def cluster_nodes() -> list[Resources]:
    """The resources of every node that is alive."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def node_is_alive(node_id: str) -> bool:
    """Whether the cluster's head takes the node for alive."""
    return any(node["NodeID"] == node_id and node["Alive"] for node in ray.nodes())


def node_answers(node_id: str) -> bool:
    """Whether the node's raylet accepts a connection.

    The cluster's head takes up to half a minute to notice that a node is gone, whereas the driver
    learns of the deaths of its actors at once.
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
