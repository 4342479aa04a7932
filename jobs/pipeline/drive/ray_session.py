"""Ray for the time of one run: one started here that keeps quiet, or a cluster that is joined."""

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

# Only orders and counts go through the object store.
_OBJECT_STORE_BYTES = 80 * 2**20
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """The first SIGINT or SIGTERM asks the run to stop; the second ends the process at once.

    Args:
        exit_code: of the process, after a second signal.
    """

    def __init__(self, exit_code: int) -> None:
        self._exit_code = exit_code
        self._signals = 0
        self._before: dict[int, Any] = {}

    def requested(self) -> bool:
        """Whether the run should stop."""
        return self._signals > 0

    def install(self) -> None:
        """Handle the signals from now on. Call it after ``ray.init``, which handles SIGTERM too."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._received) for number in _SIGNALS}

    def restore(self) -> None:
        """Put back the handlers that were there before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _received(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 1:
            os._exit(self._exit_code)


@contextmanager
def ray_session(config: LabelConfig, *, killed_code: int) -> Iterator[StopRequest]:
    """Connect to Ray as ``--ray-address`` says, unless this process is connected already.

    Args:
        config: its ``ray_address`` is used.
        killed_code: what the process exits with at a second signal, which it does not survive.

    Yields:
        The request to stop that signals set.

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
    """Start Ray on this machine, for this process alone: no dashboard, no usage report."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Actors that ask for no GPU see none: Ray's default, stated because Ray warns otherwise.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    # Otherwise each thread of a worker keeps a pool of freed memory.
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
    """Keep Ray from printing a page on stdout for every actor that dies.

    It does so whatever ``log_to_driver`` says; the reporter prints one line instead.
    """
    with suppress(ImportError, AttributeError):
        from ray._private import worker

        if callable(worker.print_to_stdstream):
            worker.print_to_stdstream = _print_nothing


def _print_nothing(*args: object, **options: object) -> None:
    pass
