"""One embedded Ray for all tests of a process, in-process runs and drivers that join it alike."""

from __future__ import annotations

import os
import sys
import time
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
# Those of a killed actor are free again after a moment.
_PATIENCE = 10.0


def program_environment() -> dict[str, str]:
    """For subprocesses that run a program with a factory out of ``fakes`` or ``faults``."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    return {**kept, **WORKER_ENVIRONMENT}


@contextmanager
def shared_ray(num_cpus: int = 4) -> Iterator[str]:
    """The address of this process's Ray, which is started unless somebody has."""
    import ray

    ours = not ray.is_initialized()
    if ours:
        _start(num_cpus)
    yield address()
    if ours:
        ray.shutdown()


def address() -> str:
    """Of this process's Ray; another one after :func:`restart_if_cpus_are_lost`."""
    import ray

    return str(ray.get_runtime_context().gcs_address)


def restart_if_cpus_are_lost() -> None:
    """Starts this process's Ray anew where no test uses its CPUs and they are not free, either.

    Ray 2.60 keeps the CPUs of an actor that is killed while its process is assigned to it (the
    worker logs "Mismatched ActorID: ignoring KillActor"), until the driver ends. A run ends its
    driver; the tests of one process share it, and the next actor would be waited for in vain.
    """
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return
    in_all = int(ray.cluster_resources().get("CPU", 0))
    deadline = time.monotonic() + _PATIENCE
    while ray.available_resources().get("CPU", 0) < in_all:
        if time.monotonic() > deadline:
            ray.shutdown()
            _start(in_all)
            return
        time.sleep(0.1)


def _start(num_cpus: int) -> None:
    from jobs.pipeline.drive.ray_session import embedded_ray

    before = {name: os.environ.get(name) for name in WORKER_ENVIRONMENT}
    os.environ.update(WORKER_ENVIRONMENT)
    try:
        embedded_ray(num_cpus)
    finally:
        _restore(before)


def _restore(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
