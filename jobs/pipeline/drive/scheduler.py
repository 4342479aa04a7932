"""The Ray actor pool and its one ``ray.wait`` loop. Knows chunks and deaths, nothing of faces.

Chunks go to actors whose set-up has returned, two at a time. What an actor held when it died
is given to others: a chunk that was there at two deaths is tried one image at a time, and the
images that kill are labelled ``crashed``. A node's death counts against no chunk. Image bytes and
rows never pass through here; plans of shards are made just ahead of their labelling, so that
memory does not grow with the number of images.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import (
    ActorUnavailableError,
    GetTimeoutError,
    RayActorError,
    RayError,
    RayTaskError,
)

from jobs.pipeline.drive.planning import PendingShard, Planner
from jobs.pipeline.drive.pool import (
    ActorSlot,
    PoolSize,
    cluster_nodes,
    node_answers,
    node_is_alive,
    start_actor,
)
from jobs.pipeline.drive.watchdog import Watchdog
from jobs.pipeline.drive.work import (
    MOST_ERRORS,
    ActorDied,
    ChunkDone,
    ChunkGivenUp,
    Event,
    ShardPlanned,
    Tick,
    Waiting,
    Work,
)
from jobs.pipeline.label.actor import Assignment, ChunkResult
from jobs.pipeline.shards import Shard
from jobs.pipeline.storage.store import StoreError
from tddfa3.errors import UserError

IN_FLIGHT = 2
_PLANS_AT_ONCE = 8
_LOW_WATER = 64
_MOST_START_DEATHS = 3
_POLL = 0.25
# Ray takes a node for dead after some 15 seconds of silence.
_UNREACHABLE_SECONDS = 30.0
_FIRST_REPORT, _REPORT_EVERY = 10.0, 60.0
_MOST_PLAN_TRIES = 4
_SAVE_SECONDS = 2.0


class StoppedEarly(Exception):
    """The run cannot go on now; what is committed stays, and the same command continues."""


class Scheduler:
    """Labels all pending chunks of ``shards``.

    Args:
        shards: in the order in which they are to be done.
        planner: makes a shard's plan, in a Ray task.
        assignment: for the actors.
        size: of the pool.
        limit: images of the run, 0 for all; the first ones in the order of the shards.
        stopping: asked several times a second; the loop ends when it says yes.
        wait: seconds without a ready actor after which to give up; 0: never.
        memory_limit: bytes above which an actor is replaced between chunks; 0: never.
        stall: seconds without progress of a chunk after which its actor is killed; 0: never.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        planner: Planner,
        assignment: Assignment,
        size: PoolSize,
        *,
        limit: int = 0,
        stopping: Callable[[], bool] = lambda: False,
        wait: float = 0.0,
        memory_limit: float = 0.0,
        stall: float = 0.0,
    ) -> None:
        self._shards = deque(shards)
        self._planner, self._assignment, self._size = planner, assignment, size
        self._left = limit or None
        self._stopping, self._wait, self._memory_limit = stopping, wait, memory_limit
        self._stall, self._watchdog = stall, Watchdog(stall)
        self._plans: dict[ray.ObjectRef, Shard] = {}
        self._unlistable: set[Shard] = set()
        self._queue: deque[Work] = deque()
        self._exclusive: deque[Work] = deque()
        self._slots: list[ActorSlot] = []
        self._start_deaths = 0
        self._idle_since = time.monotonic()
        self._next_report = self._idle_since + _FIRST_REPORT

    def run(self) -> Iterator[Event]:
        """What happens, as it happens; ends when all is done or ``stopping``.

        Raises:
            UserError: an actor can't be built, or a shard's content changed.
            StoppedEarly: storage is lost, or no actor was granted in time.
        """
        try:
            while not self._stopping() and not self._finished():
                self._start_plans()
                self._resize_pool()
                self._dispatch()
                yield from self._wait_for_something()
                yield from self._kill_stalled()
                yield self._tick()
            self._save_unfinished()
        except RayError as error:
            raise StoppedEarly(f"Ray failed: {_first_line(error)}") from None
        finally:
            for slot in self._slots:
                slot.kill()

    def _finished(self) -> bool:
        busy = any(slot.busy for slot in self._slots)
        return not (self._shards or self._plans or self._queue or self._exclusive or busy)

    def _tick(self) -> Tick:
        return Tick(
            actors_ready=sum(slot.ready for slot in self._slots),
            actors_wanted=len(self._slots),
            chunks_queued=len(self._queue) + len(self._exclusive),
            chunks_in_flight=sum(len(slot.busy) for slot in self._slots),
        )

    # Plans

    def _start_plans(self) -> None:
        at_once = 1 if self._left is not None else _PLANS_AT_ONCE
        enough = max(_LOW_WATER, 2 * IN_FLIGHT * self._size.maximum)
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
            why = f"shard {shard.id}: {_cause_text(error)}"
            is_input = isinstance(error.cause, UserError)
            raise _fatal(error) or (UserError if is_input else StoppedEarly)(why) from None
        except RayError as error:
            if shard in self._unlistable:
                why = f"shard {shard.id} cannot be planned: {_first_line(error)}"
                raise StoppedEarly(why) from None
            # Listing it killed every process that tried: one such shard must not end the run.
            self._unlistable.add(shard)
            why = f"the process that listed it died, {_MOST_PLAN_TRIES} times"
            self._plan(shard, f"{why} ({_first_line(error)})")
            return
        if self._left is not None:
            self._left -= plan.images
        self._queue.extend(Work(order) for order in plan.pending)
        yield ShardPlanned(plan)

    # Actors

    def _resize_pool(self) -> None:
        wanted = self._wanted()
        while len(self._slots) < wanted:
            self._slots.append(start_actor(self._size, self._assignment))
        for slot in sorted(self._slots, key=lambda slot: slot.info is not None):
            if not slot.busy and (slot.retiring or len(self._slots) > wanted):
                self._remove(slot)

    def _wanted(self) -> int:
        """As many as there are chunks for; at least the minimum while the number is not known."""
        chunks = len(self._queue) + len(self._exclusive)
        chunks += sum(len(slot.busy) for slot in self._slots)
        if self._shards or self._plans:
            chunks = max(chunks, self._size.minimum)
        return min(chunks, self._size.maximum)

    def _remove(self, slot: ActorSlot) -> None:
        self._slots.remove(slot)
        slot.kill()

    def _set_up(self, slot: ActorSlot) -> Iterator[Event]:
        try:
            slot.info = ray.get(slot.setup)
            slot.node_answered = node_answers(slot.info.node_id)
            self._start_deaths = 0
        except RayTaskError as error:
            raise UserError(f"an actor could not be built: {_cause_text(error)}") from None
        except RayActorError as error:
            yield from self._died(slot, error)
            self._start_deaths += not _is_node_death(error, slot)
            if self._start_deaths >= _MOST_START_DEATHS:
                why = f"actors die while they start: {_first_line(error)}"
                raise UserError(why) from None

    def _died(self, slot: ActorSlot, error: RayError) -> Iterator[Event]:
        error = _settled(error, slot)
        node_died = _is_node_death(error, slot)
        suspects = [] if node_died else list(slot.busy.values())
        yield self._lost(slot, suspects, _first_line(error), node_died)

    def _lost(
        self, slot: ActorSlot, suspects: Sequence[Work], reason: str, node_died: bool = False
    ) -> ActorDied:
        """Takes back what the actor had; :meth:`_resize_pool` starts another."""
        self._remove(slot)
        for work in suspects:
            work.died()
        for work in slot.busy.values():
            (self._exclusive if work.exclusive else self._queue).appendleft(work)
        return ActorDied(slot.info, reason, node_died)

    def _kill_stalled(self) -> Iterator[Event]:
        for slot, stuck in list(self._watchdog.stalled(self._slots)):
            chunks = ", ".join(f"{w.order.chunk.shard_id} {w.order.chunk.number}" for w in stuck)
            reason = f"no progress in {self._stall:g} s on chunk {chunks}"
            yield self._lost(slot, stuck, reason)

    def _save_unfinished(self) -> None:
        """Lets actors keep what they have of chunks at work, as far as a stop leaves time for it.

        A cluster that stops a job may kill it seconds later.
        """
        busy = [slot for slot in self._slots if slot.busy]
        saving = [slot.handle.save_unfinished.remote() for slot in busy]
        if saving:
            ray.wait(saving, num_returns=len(saving), timeout=_SAVE_SECONDS)

    # Chunks

    def _dispatch(self) -> None:
        ready = sorted((s for s in self._slots if s.ready), key=lambda slot: len(slot.busy))
        draining = len(self._exclusive)
        for slot in ready:
            alone = any(work.exclusive for work in slot.busy.values())
            if not slot.busy and self._exclusive:
                slot.send(self._exclusive.popleft())
            elif alone:
                continue
            elif draining > 0 and self._exclusive:
                draining -= 1  # takes nothing new until it is idle and can take an exclusive one
            else:
                while self._queue and len(slot.busy) < IN_FLIGHT:
                    slot.send(self._queue.popleft())

    def _wait_for_something(self) -> Iterator[Event]:
        by_ref = {slot.setup: slot for slot in self._slots if slot.info is None}
        by_ref |= {ref: slot for slot in self._slots for ref in slot.busy}
        refs = [*by_ref, *self._plans]
        done, _ = ray.wait(refs, num_returns=len(refs), timeout=0) if refs else ([], [])
        if not done and refs:
            done, _ = ray.wait(refs, num_returns=1, timeout=_POLL)
        for ref in done:
            if ref in self._plans:
                yield from self._planned(ref)
            elif (slot := by_ref[ref]) in self._slots:
                yield from self._set_up(slot) if ref == slot.setup else self._came_back(slot, ref)
        yield from self._check_waiting()

    def _came_back(self, slot: ActorSlot, ref: ray.ObjectRef) -> Iterator[Event]:
        work = slot.busy[ref]
        try:
            result = ray.get(ref)
        except RayTaskError as error:
            del slot.busy[ref]
            yield from self._failed(work, error)
            return
        except RayError as error:
            yield from self._died(slot, error)
            return
        del slot.busy[ref]
        if isinstance(result, ChunkResult):
            assert slot.info is not None
            slot.retiring = slot.retiring or 0 < self._memory_limit < result.memory
            yield ChunkDone(result, slot.info)
        else:
            work.survived_probe()
            self._exclusive.appendleft(work)

    def _failed(self, work: Work, error: RayTaskError) -> Iterator[Event]:
        """The chunk raised; the actor lives."""
        if (stop := _fatal(error)) is not None:
            raise stop from None
        if work.probing is not None:
            work.survived_probe()
        else:
            work.errors += 1
        if work.errors < MOST_ERRORS:
            (self._exclusive if work.exclusive else self._queue).append(work)
        else:
            chunk = work.order.chunk
            yield ChunkGivenUp(chunk.shard_id, chunk.number, chunk.count, _cause_text(error))

    def _check_waiting(self) -> Iterator[Event]:
        now = time.monotonic()
        if not self._slots or any(slot.info is not None for slot in self._slots):
            self._idle_since, self._next_report = now, now + _FIRST_REPORT
            return
        if self._wait and now - self._idle_since > self._wait:
            missing = self._size.missing(cluster_nodes())
            raise StoppedEarly(f"no actor was ready in {self._wait:g} s (--wait): {missing}")
        if now >= self._next_report:
            nodes = cluster_nodes()
            self._next_report = now + _REPORT_EVERY
            # Starting takes its time; it is worth a line only when it cannot, or takes very long.
            if self._size.fitting(nodes) == 0 or now - self._idle_since > _REPORT_EVERY:
                yield Waiting(self._size.missing(nodes))


def _fatal(error: RayTaskError) -> StoppedEarly | None:
    cause = error.cause
    return StoppedEarly(str(cause)) if isinstance(cause, StoreError) and cause.fatal else None


def _cause_text(error: RayTaskError) -> str:
    cause = error.cause
    if isinstance(cause, UserError):
        return str(cause)
    return f"{type(cause).__name__}: {cause}".partition("\n")[0][:500]


def _first_line(error: RayError) -> str:
    """Ray's explanations go on for pages; of an actor's death the cause stands on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = next((line for line in lines if line.startswith("The actor is dead because")), lines[0])
    return cause.partition(" Some common causes")[0][:300]


def _settled(error: RayError, slot: ActorSlot) -> RayError:
    """What has become of an actor that could not be reached.

    When a machine is lost, its actors are "unavailable" first, and for some seconds Ray does not
    know yet whether the process or the node has died, which is what counts against a chunk.
    """
    deadline = time.monotonic() + _UNREACHABLE_SECONDS
    while isinstance(error, ActorUnavailableError) and time.monotonic() < deadline:
        try:
            ray.get(slot.handle.__ray_ready__.remote(), timeout=1)
            return error
        except GetTimeoutError:
            continue
        except RayError as now:
            error = now
            time.sleep(0.5)
    return error


def _is_node_death(error: RayError, slot: ActorSlot) -> bool:
    if "node has died" in str(error) or "node was terminated" in str(error):
        return True
    if slot.info is None:
        return False
    node = slot.info.node_id
    return not node_is_alive(node) or (slot.node_answered and not node_answers(node))
