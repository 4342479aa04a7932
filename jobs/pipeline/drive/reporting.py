"""The scheduler's events, turned into counts, log records, metrics and lines for a person."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

from jobs.pipeline.drive.failures import StoppedEarly
from jobs.pipeline.drive.logs import Metrics, RunLog
from jobs.pipeline.drive.progress import Progress, Totals, duration
from jobs.pipeline.drive.work import (
    ActorDied,
    ChunkDone,
    ChunkGivenUp,
    Event,
    ShardPlanned,
    Tick,
    Waiting,
)
from jobs.pipeline.record.run import Run


class Reporter:
    """Reports a run. A context manager around the scheduler's loop.

    It swallows :class:`StoppedEarly`, and prints the summary at the end.

    Attributes:
        totals: counts so far.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self.totals = Totals(len(run.shards))
        self._progress = Progress(self.totals)
        self._log = RunLog(run.store, run.id)
        self._metrics = Metrics()
        self._stopped: str | None = None

    def __enter__(self) -> Reporter:
        self._log.write("start", shards=len(self._run.shards), resumed=self._run.resumed)
        self._progress.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._progress.__exit__(kind, error, trace)
        if isinstance(error, StoppedEarly):
            self.stopped(str(error))
        totals = self.totals
        self._log.write(
            "end",
            images=totals.images_done,
            faces=totals.faces,
            statuses=dict(totals.statuses),
            seconds=round(self._progress.elapsed, 3),
            stopped=self._stopped or (str(error) if error else None),
        )
        self._log.close()
        if error is None or isinstance(error, StoppedEarly):
            print("\n".join(self._summary()), flush=True)
        return isinstance(error, StoppedEarly)

    def stopped(self, why: str) -> None:
        """Take note of why the run ends early."""
        self._stopped = why

    def report(self, event: Event) -> None:
        """Take in one event of the scheduler."""
        if isinstance(event, Tick):
            self._tick(event)
        elif isinstance(event, ChunkDone):
            self._chunk_done(event)
        elif isinstance(event, ShardPlanned):
            self._shard_planned(event)
        elif isinstance(event, ChunkGivenUp):
            self._chunk_given_up(event)
        elif isinstance(event, ActorDied):
            self._actor_died(event)
        elif isinstance(event, Waiting):
            self._log.write("waiting", reason=event.reason)
            self._progress.note(f"waiting for an actor: {event.reason}")

    @property
    def was_stopped(self) -> bool:
        """Whether the run ended before everything was done."""
        return self._stopped is not None

    def _summary(self) -> Iterator[str]:
        totals, elapsed = self.totals, self._progress.elapsed
        before = totals.images_planned - totals.images_pending
        yield (
            f"{'stopped' if self._stopped else 'done'}: {totals.images_done:,} images, "
            f"{totals.faces:,} faces in {duration(elapsed)} "
            f"({totals.images_done / max(elapsed, 1e-9):.1f} images/s)"
            + (f"; {before:,} images were done before" if before else "")
        )
        yield from (f"  {status}: {n:,}" for status, n in sorted(totals.statuses.items()))
        yield from (f"  shard error: {error}" for error in totals.shard_errors)
        if totals.shards_in_error > len(totals.shard_errors):
            yield f"  and {totals.shards_in_error - len(totals.shard_errors)} more of them"
        if totals.given_up:
            yield f"  chunks given up: {totals.given_up}; the same command tries them again"
        if self._stopped:
            yield f"  {self._stopped}; the same command continues"
        yield f"labels: {self._run.store.uri('annotations')}"

    def _tick(self, tick: Tick) -> None:
        self._progress.show(tick.actors_ready, tick.actors_wanted)
        self._metrics.state(tick.chunks_queued, tick.chunks_in_flight, tick.actors_ready)
        self._log.publish_if_due()

    def _shard_planned(self, event: ShardPlanned) -> None:
        plan = event.plan
        pending = sum(order.chunk.count for order in plan.pending)
        self.totals.planned(plan.images, pending, plan.error, plan.shard.id)
        self._log.write(
            "shard",
            shard=plan.shard.id,
            images=plan.images,
            chunks=plan.chunks,
            pending=len(plan.pending),
            error=plan.error,
        )

    def _chunk_done(self, event: ChunkDone) -> None:
        result, actor = event.result, event.actor
        self.totals.done(result.counts)
        self._metrics.chunk(result.counts, result.seconds)
        self._log.write(
            "chunk",
            shard=result.shard_id,
            number=result.number,
            images=result.counts["images"],
            faces=result.counts["faces"],
            statuses=result.counts["status"],
            already_done=result.already_done,
            seconds={stage: round(value, 4) for stage, value in result.seconds.items()},
            memory=result.memory,
            pid=actor.pid,
            host=actor.host,
            node=actor.node_id,
        )

    def _chunk_given_up(self, event: ChunkGivenUp) -> None:
        self.totals.given_up += 1
        self.totals.images_pending -= event.images
        self._log.write(
            "chunk_given_up", shard=event.shard_id, number=event.number, reason=event.reason
        )
        self._progress.note(f"given up: {event.shard_id} chunk {event.number}: {event.reason}")

    def _actor_died(self, event: ActorDied) -> None:
        pid = event.actor.pid if event.actor else None
        self._log.write("actor_died", pid=pid, reason=event.reason, node_died=event.node_died)
        what = "a node" if event.node_died else "an actor"
        self._progress.note(f"{what} died; what it had is tried again ({event.reason})")
