"""Hands chunks to actors in one ``ray.wait`` loop. Knows chunks and deaths, nothing of faces.

Chunks go to actors whose set-up has returned, two at a time. What an actor held when it died
is given to others: a chunk that was there at two deaths is tried one image at a time, and the
images that kill are labelled ``crashed``. A node's death counts against no chunk. Image bytes and
rows never pass through here; plans of shards are made just ahead of their labelling, so that
memory does not grow with the number of images.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from jobs.pipeline.drive.failures import StoppedEarly, cause_text, fatal, first_line
from jobs.pipeline.drive.planning import PendingShard, Planner
from jobs.pipeline.drive.pool import ActorPool, Death
from jobs.pipeline.drive.slot import ActorSlot
from jobs.pipeline.drive.work import (
    MOST_ERRORS,
    ChunkDone,
    ChunkGivenUp,
    Event,
    ShardPlanned,
    Tick,
    Work,
)
from jobs.pipeline.label.actor import ChunkResult
from jobs.pipeline.shards import Shard
from tddfa3.errors import UserError

IN_FLIGHT = 2
"""Chunks that an actor has at a time."""
_PLANS_AT_ONCE = 8
_LOW_WATER = 64
_POLL = 0.25
_MOST_PLAN_TRIES = 4


class Scheduler:
    """Labels all pending chunks of ``shards``.

    Args:
        shards: in the order in which they are to be done.
        planner: makes a shard's plan, in a Ray task.
        pool: the actors; they are killed at the end of the run.
        limit: images of the run, 0 for all; the first ones in the order of the shards.
        stopping: asked several times a second; the loop ends when it returns True.
        resumed: everything may be done already, so no actor is started before a chunk is known
            to be left. Otherwise actors start while the first shards are listed.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        planner: Planner,
        pool: ActorPool,
        *,
        limit: int = 0,
        stopping: Callable[[], bool] = lambda: False,
        resumed: bool = False,
    ) -> None:
        self._shards = deque(shards)
        self._planner, self._pool = planner, pool
        self._left = limit or None
        self._stopping, self._resumed = stopping, resumed
        self._plans: dict[ray.ObjectRef, Shard] = {}
        self._unlistable: set[Shard] = set()
        self._queue: deque[Work] = deque()
        self._exclusive: deque[Work] = deque()

    def run(self) -> Iterator[Event]:
        """What happens, as it happens; ends when all is done or ``stopping``.

        Yields:
            Events in the order in which they happened, with a :class:`Tick` in every round.

        Raises:
            UserError: an actor can't be built, or a shard's content changed.
            StoppedEarly: storage is lost, or no actor was granted in time.
        """
        try:
            while not self._stopping() and not self._finished():
                self._start_plans()
                self._pool.resize(self._wanted())
                self._dispatch()
                yield from self._wait_for_something()
                for death in self._pool.kill_stalled():
                    yield from self._take_back(death)
                yield self._tick()
            self._pool.save_unfinished()
        except RayError as error:
            raise StoppedEarly(f"Ray failed: {first_line(error)}") from None
        finally:
            self._pool.kill()

    def _finished(self) -> bool:
        waiting = self._shards or self._plans or self._queue or self._exclusive
        return not (waiting or self._pool.chunks_in_flight)

    def _tick(self) -> Tick:
        return Tick(
            actors_ready=self._pool.ready,
            actors_wanted=len(self._pool.slots),
            chunks_queued=len(self._queue) + len(self._exclusive),
            chunks_in_flight=self._pool.chunks_in_flight,
        )

    def _start_plans(self) -> None:
        at_once = 1 if self._left is not None else _PLANS_AT_ONCE
        enough = max(_LOW_WATER, 2 * IN_FLIGHT * self._pool.size.maximum)
        if self._left == 0:
            self._shards.clear()
        while self._shards and len(self._plans) < at_once and len(self._queue) < enough:
            shard = self._shards.popleft()
            self._plan(shard)

    def _plan(self, shard: Shard, unlistable: str | None = None) -> None:
        # No CPU of its own: the actors may have them all, and listing waits for storage.
        task: Any = ray.remote(Planner.plan).options(num_cpus=0, max_retries=_MOST_PLAN_TRIES - 1)
        self._plans[task.remote(self._planner, shard, self._left, unlistable)] = shard

    def _planned(self, ref: ray.ObjectRef) -> Iterator[Event]:
        shard = self._plans.pop(ref)
        try:
            plan: PendingShard = ray.get(ref)
        except RayTaskError as error:
            why = f"shard {shard.id}: {cause_text(error)}"
            is_input = isinstance(error.cause, UserError)
            raise fatal(error) or (UserError if is_input else StoppedEarly)(why) from None
        except RayError as error:
            if shard in self._unlistable:
                why = f"shard {shard.id} cannot be planned: {first_line(error)}"
                raise StoppedEarly(why) from None
            # Listing it killed every process that tried. One such shard must not end the run.
            self._unlistable.add(shard)
            why = f"the process that listed it died, {_MOST_PLAN_TRIES} times"
            self._plan(shard, f"{why} ({first_line(error)})")
            return
        if self._left is not None:
            self._left -= plan.images
        self._queue.extend(Work(order) for order in plan.pending)
        yield ShardPlanned(plan)

    def _wanted(self) -> int:
        """How many actors there should be: as many as chunks.

        At least the minimum, while the number of chunks is not known.
        """
        chunks = len(self._queue) + len(self._exclusive) + self._pool.chunks_in_flight
        if (self._shards or self._plans) and (chunks or not self._resumed):
            chunks = max(chunks, self._pool.size.minimum)
        return min(chunks, self._pool.size.maximum)

    def _dispatch(self) -> None:
        ready = sorted((s for s in self._pool.slots if s.ready), key=lambda slot: len(slot.busy))
        draining = len(self._exclusive)
        for slot in ready:
            alone = any(work.exclusive for work in slot.busy.values())
            if not slot.busy and self._exclusive:
                slot.send(self._exclusive.popleft())
            elif alone:
                continue
            elif draining > 0 and self._exclusive:
                draining -= 1  # gets nothing new until it is idle and can take an exclusive one
            else:
                while self._queue and len(slot.busy) < IN_FLIGHT:
                    slot.send(self._queue.popleft())

    def _wait_for_something(self) -> Iterator[Event]:
        by_ref = self._pool.awaited()
        refs = [*by_ref, *self._plans]
        done, _ = ray.wait(refs, num_returns=len(refs), timeout=0) if refs else ([], [])
        if not done and refs:
            done, _ = ray.wait(refs, num_returns=1, timeout=_POLL)
        for ref in done:
            if ref in self._plans:
                yield from self._planned(ref)
            elif (slot := by_ref[ref]) not in self._pool.slots:
                continue
            elif ref != slot.setup:
                yield from self._came_back(slot, ref)
            elif (death := self._pool.set_up(slot)) is not None:
                yield from self._take_back(death)
        if (waiting := self._pool.check_waiting()) is not None:
            yield waiting

    def _came_back(self, slot: ActorSlot, ref: ray.ObjectRef) -> Iterator[Event]:
        work = slot.busy[ref]
        try:
            result = ray.get(ref)
        except RayTaskError as error:
            del slot.busy[ref]
            yield from self._failed(work, error)
            return
        except RayError as error:
            yield from self._take_back(self._pool.died(slot, error))
            return
        del slot.busy[ref]
        if isinstance(result, ChunkResult):
            assert slot.info is not None
            self._pool.committed(slot, result)
            yield ChunkDone(result, slot.info)
        else:
            work.survived_probe()
            self._exclusive.appendleft(work)

    def _failed(self, work: Work, error: RayTaskError) -> Iterator[Event]:
        """A chunk raised; its actor lives."""
        if (stop := fatal(error)) is not None:
            raise stop from None
        if work.probing is not None:
            work.survived_probe()
        else:
            work.errors += 1
        if work.errors < MOST_ERRORS:
            (self._exclusive if work.exclusive else self._queue).append(work)
        else:
            chunk = work.order.chunk
            yield ChunkGivenUp(chunk.shard_id, chunk.number, chunk.count, cause_text(error))

    def _take_back(self, death: Death) -> Iterator[Event]:
        """Put the chunks of a dead actor at the front of the queue."""
        for work in death.chunks:
            (self._exclusive if work.exclusive else self._queue).appendleft(work)
        yield death.event
