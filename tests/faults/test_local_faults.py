"""Every fault on local storage: no row lost, none doubled, and the right word for each image."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.faults.arena import Arena
from tests.faults.scenarios import LOCAL

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("scenario", LOCAL.values(), ids=LOCAL.keys())
def test_rows_are_exact_after(scenario: Callable[[Arena], None], arena: Arena) -> None:
    if scenario is LOCAL["disk full"] and os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    scenario(arena)
    arena.tally().assert_exact()
