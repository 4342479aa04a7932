"""What the tests of the programs share: one embedded Ray, whose workers find ``fakes``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
WORKER_PATH = os.pathsep.join([str(HERE.parent.parent), str(HERE)])


@pytest.fixture(scope="session")
def worker_environment() -> dict[str, str]:
    """For subprocesses that run a program with an engine out of ``fakes``."""
    return {**os.environ, "PYTHONPATH": WORKER_PATH}


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """Ray with four logical CPUs on this machine, started once for all tests that share it."""
    import ray

    from jobs.pipeline.ray_session import embedded_ray

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = WORKER_PATH
    embedded_ray(num_cpus=4)
    yield
    ray.shutdown()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before
