"""Where the faults are done: a folder, and one Ray for all of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
for folder in (TESTS / "jobs", TESTS / "s3"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from arena import Arena  # noqa: E402
from shared_ray import shared_ray  # noqa: E402


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    with shared_ray() as address:
        yield address


@pytest.fixture
def arena(tmp_path: Path, ray_address: str) -> Arena:
    return Arena(tmp_path, ray_address)
