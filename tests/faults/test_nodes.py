"""A machine of the cluster is lost: its raylet is killed, and with it the actor that it ran."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.node_scenarios import NODES, NodeArena, node_arena, nodes_killed

pytestmark = pytest.mark.timeout(300)


def test_rows_are_exact_after_one_node_is_killed(tmp_path: Path) -> None:
    with node_arena(tmp_path, "") as arena:
        nodes_killed(arena, times=1, images=20)
        arena.tally().assert_exact()


@pytest.mark.slow
@pytest.mark.parametrize("scenario", NODES.values(), ids=NODES.keys())
def test_rows_are_exact_after(scenario: Callable[[NodeArena], None], tmp_path: Path) -> None:
    with node_arena(tmp_path, "") as arena:
        scenario(arena)
        arena.tally().assert_exact()
