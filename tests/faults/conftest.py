"""Where the faults are done: a folder, and one Ray for all of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.arena import Arena
from tests.support.shared_ray import address, shared_ray


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    with shared_ray():
        yield


@pytest.fixture
def arena(tmp_path: Path, local_ray: None, rng: random.Random) -> Arena:
    return Arena(tmp_path, address(), seed=rng.randrange(2**32))
