"""Batches to workers: in this process when faces are few, in Ray actors when they are many."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from jobs.pipeline.export.plan import Batch
from jobs.pipeline.export.work import BatchReport, Exporter, ExportJob
from jobs.pipeline.record.config import LabelConfig
from tddfa3.errors import UserError

FEW_FACES = 2000
"""Up to so many faces, starting Ray takes longer than it saves."""
_IN_FLIGHT = 2
_MOST_DEATHS = 2


def export_batches(
    job: ExportJob, batches: Sequence[Batch], *, killed_code: int
) -> Iterator[BatchReport]:
    """Export all batches and report each when it is done, in any order.

    Args:
        job: what every worker is given.
        batches: what is to be exported.
        killed_code: what the process exits with at a second signal, which it does not survive.

    Raises:
        UserError: a worker could not be built, died again and again, or the storage failed.
        KeyboardInterrupt: a signal asked the export to stop.
    """
    faces = sum(len(batch.picks) for batch in batches)
    few = job.config.workers == 0 and faces <= FEW_FACES
    if few and job.config.ray_address == "local":
        exporter = Exporter(job, threads=len(os.sched_getaffinity(0)))
        yield from (exporter.export(batch) for batch in batches)
    else:
        yield from _through_ray(job, batches, killed_code)


def _through_ray(
    job: ExportJob, batches: Sequence[Batch], killed_code: int
) -> Iterator[BatchReport]:
    import ray

    from jobs.pipeline.drive.ray_session import ray_session

    config = LabelConfig(ray_address=job.config.ray_address)
    with ray_session(config, killed_code=killed_code) as stop:
        actors = _start(job, len(batches))
        waiting = deque(batches)
        running: dict[Any, Any] = {}
        for actor in actors * _IN_FLIGHT:
            _send(actor, waiting, running)
        while running and not stop.requested():
            done, _ = ray.wait(list(running), timeout=1.0)
            for ref in done:
                actor = running.pop(ref)
                yield _result(ref)
                _send(actor, waiting, running)
        if stop.requested():
            raise KeyboardInterrupt


def _start(job: ExportJob, batches: int) -> list[Any]:
    import ray

    resources = ray.cluster_resources()
    workers = min(job.config.workers or int(resources.get("CPU", 1)), batches)
    gpus = resources.get("GPU", 0) / workers if job.config.device == "cuda" else 0
    # A worker whose process dies is started again, and what it had is sent again.
    options = {
        "num_cpus": 1,
        "num_gpus": min(1.0, gpus),
        "max_restarts": _MOST_DEATHS,
        "max_task_retries": _MOST_DEATHS,
    }
    actor = ray.remote(Exporter).options(**options)
    return [actor.remote(job, threads=1) for _ in range(workers)]


def _send(actor: Any, waiting: deque[Batch], running: dict[Any, Any]) -> None:
    if waiting:
        running[actor.export.remote(waiting.popleft())] = actor


def _result(ref: Any) -> BatchReport:
    import ray

    try:
        report: BatchReport = ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayActorError as error:
        why = str(error).strip().partition("\n")[0]
        raise UserError(f"an export worker died {_MOST_DEATHS + 1} times: {why}") from None
    return report
