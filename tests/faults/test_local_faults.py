"""Every fault on local storage: no row lost, none doubled, and the right word for each image.

One of them is not slow: a driver that dies between an image's files and the rows that name them.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.faults.arena import Arena
from tests.faults.scenarios import LOCAL

QUICK = "driver killed between objects and part file"


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(scenario, id=name, marks=() if name == QUICK else pytest.mark.slow)
        for name, scenario in LOCAL.items()
    ],
)
def test_rows_are_exact_after(scenario: Callable[[Arena], None], arena: Arena) -> None:
    if scenario is LOCAL["disk full"] and os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    scenario(arena)
    arena.tally().assert_exact()
