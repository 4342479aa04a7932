"""Where the faults are done: a folder, and one Ray for all of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.arena import Arena
from tests.support.shared_ray import shared_ray


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    with shared_ray() as address:
        yield address


@pytest.fixture
def arena(tmp_path: Path, ray_address: str, rng: random.Random) -> Arena:
    return Arena(tmp_path, ray_address, seed=rng.randrange(2**32))
