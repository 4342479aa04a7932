"""Runs the job in this process and watches it: rate, idle shares, memory of the actors."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from benchmarks.machine import Memory, memory, peak_memory
from jobs.exits import ExitCode
from jobs.pipeline.drive.nodes import cluster_nodes
from jobs.pipeline.drive.planning import Planner
from jobs.pipeline.drive.pool import ActorPool
from jobs.pipeline.drive.ray_session import ray_session
from jobs.pipeline.drive.scheduler import Scheduler
from jobs.pipeline.drive.sizing import config_on_actor, size_pool
from jobs.pipeline.drive.work import ChunkDone, Event, Tick
from jobs.pipeline.label.actor import Assignment
from jobs.pipeline.label.factory import LabelerFactory
from jobs.pipeline.record.config import LabelConfig
from jobs.pipeline.record.run import open_run


@dataclass
class Watch:
    """What has happened since all actors were ready; everything before is start-up.

    Attributes:
        actors: how many there are to be.
        started: when the run began, in seconds of ``perf_counter``, like the next two.
        ready: when all actors were ready.
        ended: when the last chunk was done.
        driver_cpu: processor seconds that the driver had taken when all actors were ready.
        faces: labelled since.
        busy: seconds per stage, of all actors together.
        alive: actors that are ready now.
        memory: of an actor that has done a chunk, taken while all actors run, because memory that
            it shares with others becomes its own when they end.
        done: process of an actor to when its chunks were done, and their images.
    """

    actors: int
    started: float = field(default_factory=time.perf_counter)
    ready: float | None = None
    ended: float = 0.0
    driver_cpu: float = 0.0
    faces: int = 0
    busy: Counter[str] = field(default_factory=Counter)
    alive: int = 0
    memory: list[Memory] = field(default_factory=list)
    done: dict[int, list[tuple[float, int]]] = field(default_factory=dict)

    def see(self, event: Event) -> None:
        """Records an event with the current time, so it must be called when the event happens."""
        now = time.perf_counter()
        if isinstance(event, Tick):
            self.alive = event.actors_ready
            if self.ready is None and event.actors_ready >= self.actors:
                self.ready, self.driver_cpu = now, time.process_time()
        elif isinstance(event, ChunkDone) and self.ready is not None:
            self.ended = now
            self.faces += event.result.counts["faces"]
            self.busy.update(event.result.seconds)
            chunks = self.done.setdefault(event.actor.pid, [])
            chunks.append((now, event.result.counts["images"]))
            if self.alive >= self.actors:
                with suppress(OSError):  # the actor is on another machine, or gone
                    self.memory.append(memory(event.actor.pid))

    def result(self) -> dict[str, Any]:
        """The figures of the job.

        Raises:
            RuntimeError: an actor has done fewer than two chunks since all were ready.
        """
        chunks = [len(done) for done in self.done.values()]
        if self.ready is None or sum(n > 1 for n in chunks) < self.actors:
            raise RuntimeError("the job was over before all actors had done two chunks; give more")
        seconds = self.ended - self.ready
        images = sum(count for done in self.done.values() for _, count in done)
        used = self.memory
        return {
            "images": images,
            "faces": self.faces,
            "chunks": sum(chunks),
            "images_per_second": rate(self.done.values()),
            "startup_seconds": self.ready - self.started,
            "idle": self._idle(seconds),
            "resident_bytes_per_actor": max((m.resident for m in used), default=None),
            "proportional_bytes_per_actor": max((m.proportional for m in used), default=None),
            "unique_bytes_per_actor": max((m.unique for m in used), default=None),
            "driver_cpu_ms_per_image": 1000 * (time.process_time() - self.driver_cpu) / images,
            "driver_bytes": peak_memory(),
        }

    def _idle(self, seconds: float) -> dict[str, float]:
        """Share of the time in which a stage was idle, of all actors together.

        Several threads of an actor can decode or write objects at once; values below 0 become 0.
        """
        whole = seconds * self.actors
        stages = ("read", "decode", "label", "encode", "publish")
        return {stage: max(0.0, 1 - self.busy[stage] / whole) for stage in stages}


def rate(actors: Iterable[Sequence[tuple[float, int]]]) -> float:
    """Images per second of actors that are all at work.

    It is the sum of the actors' own rates, each from its first chunk to its last. Before that the
    pipeline fills up, and after its last chunk an actor waits for the others, which in a long job
    takes a negligible share of the time.

    Args:
        actors: when each one's chunks were done, in seconds, and their images, in order of time.
    """
    images_per_second = 0.0
    for chunks in actors:
        seconds = chunks[-1][0] - chunks[0][0]
        images_per_second += sum(images for _, images in chunks[1:]) / seconds if seconds else 0
    return images_per_second


def run_job(config: LabelConfig, factory: LabelerFactory) -> dict[str, Any]:
    """Labels the input of a config, as ``jobs.label`` does, and measures it.

    Raises:
        UserError: the config cannot be run.
        RuntimeError: too few images to measure.
    """
    run = open_run(config, factory.facts(config))
    watch = Watch(config.actors.minimum)
    with ray_session(config, killed_code=ExitCode.STOPPED) as stop:
        size = size_pool(config, cluster_nodes())
        assignment = Assignment.of(run, factory, size.cpus, config_on_actor(config, size))
        pool = ActorPool(assignment, size)
        scheduler = Scheduler(run.shards, Planner.of(run), pool, stopping=stop.requested)
        for event in scheduler.run():
            watch.see(event)
    return watch.result()
