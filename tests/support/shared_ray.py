"""One embedded Ray for all tests of a process, in-process runs and drivers that join it alike."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Where workers and programs of their own find the packages and the tests' labelers.
WORKER_PATH = str(Path(__file__).resolve().parents[2])
#: Of the S3 server of the tests; the last one is what must show up nowhere.
ACCESS_KEY, SECRET_KEY = "test-access-key", "canary-secret-3f9c1b"
WORKER_ENVIRONMENT = {
    "PYTHONPATH": WORKER_PATH,
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def program_environment() -> dict[str, str]:
    """For subprocesses that run a program with a factory out of ``fakes`` or ``faults``."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    return {**kept, **WORKER_ENVIRONMENT}


@contextmanager
def shared_ray(num_cpus: int = 4) -> Iterator[str]:
    """The address of this process's Ray, which is started unless somebody has."""
    import ray

    from jobs.pipeline.drive.ray_session import embedded_ray

    ours = not ray.is_initialized()
    if ours:
        before = {name: os.environ.get(name) for name in WORKER_ENVIRONMENT}
        os.environ.update(WORKER_ENVIRONMENT)
        try:
            embedded_ray(num_cpus)
        finally:
            _restore(before)
    yield ray.get_runtime_context().gcs_address
    if ours:
        ray.shutdown()


def _restore(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
