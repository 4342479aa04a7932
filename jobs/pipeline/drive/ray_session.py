"""Ray for the time of one run: an embedded one that keeps quiet, or a cluster that is joined."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import ray

from jobs.pipeline.drive.joining import explain, join_cluster
from jobs.pipeline.record.config import LabelConfig
from tddfa3.errors import UserError

# Nothing of size goes through the object store: orders and counts only.
_OBJECT_STORE_BYTES = 80 * 2**20
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """The first SIGINT or SIGTERM asks the run to stop; the second ends the process at once, with
    ``exit_code``."""

    def __init__(self, exit_code: int) -> None:
        self._exit_code = exit_code
        self._signals = 0
        self._before: dict[int, Any] = {}

    def requested(self) -> bool:
        return self._signals > 0

    def install(self) -> None:
        """Call it after ``ray.init``, which sets a SIGTERM handler of its own."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._received) for number in _SIGNALS}

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _received(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 1:
            os._exit(self._exit_code)


@contextmanager
def ray_session(config: LabelConfig, *, killed_code: int) -> Iterator[StopRequest]:
    """Ray as ``--ray-address`` says; one that this process is connected to already is used as is.

    Args:
        killed_code: what the process exits with at a second signal, which it does not survive.

    Raises:
        UserError: the cluster can't be reached.
    """
    stop = StopRequest(killed_code)
    ours = not ray.is_initialized()
    if ours:
        _connect(config.ray_address)
    stop.install()
    try:
        yield stop
    finally:
        if ours:
            ray.shutdown()
        stop.restore()


def _connect(address: str) -> None:
    if address != "local":
        join_cluster(address, **_QUIET)
        _silence_raylet()
        return
    try:
        embedded_ray(len(os.sched_getaffinity(0)))
    except Exception as error:
        raise UserError(f"--ray-address {address}: {explain(error)}") from None


def embedded_ray(num_cpus: int) -> None:
    """Starts Ray on this machine, for this process alone: no dashboard, no usage report."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Actors that ask for no GPU see none; this is Ray's default, said so that it does not warn.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    # Each thread of a worker would otherwise keep a pool of freed memory to itself.
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    ray.init(
        address="local",
        num_cpus=num_cpus,
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        **_QUIET,
    )
    _silence_raylet()


def _silence_raylet() -> None:
    """Ray prints a page on stdout for every actor that dies, whatever ``log_to_driver`` says; the
    scheduler says it in one line."""
    with suppress(ImportError, AttributeError):
        from ray._private import worker

        if callable(worker.print_to_stdstream):
            worker.print_to_stdstream = _print_nothing


def _print_nothing(*args: object, **options: object) -> None:
    pass
