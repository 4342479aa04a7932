"""What the tests of the programs share: one embedded Ray, whose workers find ``fakes``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.shared_ray import program_environment, shared_ray


@pytest.fixture(scope="session")
def worker_environment() -> dict[str, str]:
    """For subprocesses that run a program with a factory out of ``fakes``."""
    return program_environment()


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """Ray with four logical CPUs on this machine, started once for all tests that share it."""
    with shared_ray():
        yield
