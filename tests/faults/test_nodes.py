"""A machine of the cluster is lost: its raylet is killed, and with it the actor that it ran."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.node_scenarios import NODES, NodeArena, node_arena

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("scenario", NODES.values(), ids=NODES.keys())
def test_rows_are_exact_after(scenario: Callable[[NodeArena], None], tmp_path: Path) -> None:
    with node_arena(tmp_path, "") as arena:
        scenario(arena)
        arena.tally().assert_exact()
