"""The actors of a run: started, ready, busy, dead, replaced. Knows nothing of queues."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import (
    ActorUnavailableError,
    GetTimeoutError,
    RayActorError,
    RayError,
    RayTaskError,
)

from jobs.pipeline.drive.failures import StoppedEarly, cause_text, first_line
from jobs.pipeline.drive.nodes import cluster_nodes, node_answers, node_is_alive
from jobs.pipeline.drive.sizing import PoolSize
from jobs.pipeline.drive.slot import ActorSlot
from jobs.pipeline.drive.watchdog import Watchdog
from jobs.pipeline.drive.work import ActorDied, Waiting, Work
from jobs.pipeline.label.actor import Assignment, ChunkResult, LabelActor
from tddfa3.errors import UserError

# Threads of an actor for method calls: two for chunks, one for a chunk that is being published, one
# for questions.
_CONCURRENCY = 4
_MOST_START_DEATHS = 3
# Ray takes a node for dead after 15 seconds of silence or so.
_UNREACHABLE_SECONDS = 30.0
_FIRST_REPORT, _REPORT_EVERY = 10.0, 60.0
_SAVE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Death:
    """An actor that is gone.

    Attributes:
        event: what to report.
        chunks: what it was working on, which has to go to other actors.
    """

    event: ActorDied
    chunks: tuple[Work, ...]


class ActorPool:
    """Starts actors, learns whether they can be built, and replaces those that die or hang.

    Args:
        assignment: for every actor.
        size: of the pool, and of its actors.
        wait: seconds without a ready actor after which to give up; 0: never.
        memory_limit: bytes above which an actor is replaced between chunks; 0: never.
        stall: seconds without progress of a chunk after which its actor is killed; 0: never.
    """

    def __init__(
        self,
        assignment: Assignment,
        size: PoolSize,
        *,
        wait: float = 0.0,
        memory_limit: float = 0.0,
        stall: float = 0.0,
    ) -> None:
        self.size = size
        self.slots: list[ActorSlot] = []
        self._assignment = assignment
        self._wait, self._memory_limit = wait, memory_limit
        self._stall, self._watchdog = stall, Watchdog(stall)
        self._start_deaths: list[str] = []
        self._idle_since = time.monotonic()
        self._next_report = self._idle_since + _FIRST_REPORT

    @property
    def ready(self) -> int:
        """How many actors can be given work."""
        return sum(slot.ready for slot in self.slots)

    @property
    def chunks_in_flight(self) -> int:
        """How many chunks actors are working on."""
        return sum(len(slot.busy) for slot in self.slots)

    def awaited(self) -> dict[ray.ObjectRef, ActorSlot]:
        """The results that are awaited, with their actors: set-ups, then chunks."""
        by_ref = {slot.setup: slot for slot in self.slots if slot.info is None}
        return by_ref | {ref: slot for slot in self.slots for ref in slot.busy}

    def resize(self, wanted: int) -> None:
        """Ask for actors until there are ``wanted``, or let idle ones go, unbuilt ones first.

        Raises:
            UserError: the actors started last all died while they started.
        """
        if len(self._start_deaths) >= _MOST_START_DEATHS:
            raise UserError(f"actors die while they start: {self._start_deaths[-1]}")
        while len(self.slots) < wanted:
            self.slots.append(_start(self.size, self._assignment))
        for slot in sorted(self.slots, key=lambda slot: slot.info is not None):
            if not slot.busy and (slot.retiring or len(self.slots) > wanted):
                self._remove(slot)

    def set_up(self, slot: ActorSlot) -> Death | None:
        """Take note that an actor's set-up has ended.

        Returns:
            None if the actor is ready, else its death.

        Raises:
            UserError: it cannot be built.
        """
        try:
            slot.info = ray.get(slot.setup)
        except RayTaskError as error:
            raise UserError(f"an actor could not be built: {cause_text(error)}") from None
        except RayActorError as error:
            death = self.died(slot, error)
            if not death.event.node_died:
                self._start_deaths.append(death.event.reason)
            return death
        slot.node_answered = node_answers(slot.info.node_id)
        self._start_deaths.clear()
        return None

    def committed(self, slot: ActorSlot, result: ChunkResult) -> None:
        """Take note of how much memory an actor holds after a chunk."""
        slot.retiring = slot.retiring or 0 < self._memory_limit < result.memory

    def died(self, slot: ActorSlot, error: RayError) -> Death:
        """Take note that an actor cannot be reached.

        Its chunks are held responsible, unless the whole node died.
        """
        error = _settled(error, slot)
        node_died = _is_node_death(error, slot)
        suspects = [] if node_died else list(slot.busy.values())
        return self._lose(slot, suspects, first_line(error), node_died)

    def kill_stalled(self) -> Iterator[Death]:
        """Kill actors whose chunks make no progress."""
        for slot, stuck in list(self._watchdog.stalled(self.slots)):
            chunks = ", ".join(f"{w.order.chunk.shard_id} {w.order.chunk.number}" for w in stuck)
            reason = f"no progress in {self._stall:g} s on chunk {chunks}"
            yield self._lose(slot, stuck, reason, node_died=False)

    def check_waiting(self) -> Waiting | None:
        """What is missing while no actor is ready; None between two such reports.

        Raises:
            StoppedEarly: no actor was ready within ``wait`` seconds.
        """
        now = time.monotonic()
        if not self.slots or any(slot.info is not None for slot in self.slots):
            self._idle_since, self._next_report = now, now + _FIRST_REPORT
            return None
        if self._wait and now - self._idle_since > self._wait:
            missing = self.size.missing(cluster_nodes())
            raise StoppedEarly(f"no actor was ready in {self._wait:g} s (--wait): {missing}")
        if now < self._next_report:
            return None
        nodes = cluster_nodes()
        self._next_report = now + _REPORT_EVERY
        # Starting takes time: report it only when it cannot work, or takes very long.
        if self.size.fitting(nodes) > 0 and now - self._idle_since <= _REPORT_EVERY:
            return None
        return Waiting(self.size.missing(nodes))

    def save_unfinished(self) -> None:
        """Let actors save the rows of chunks at work, as far as a stop leaves time for it.

        A cluster that stops a job may kill it seconds later.
        """
        busy = [slot for slot in self.slots if slot.busy]
        saving = [slot.handle.save_unfinished.remote() for slot in busy]
        if saving:
            ray.wait(saving, num_returns=len(saving), timeout=_SAVE_SECONDS)

    def kill(self) -> None:
        """End all actors, whatever they are doing."""
        for slot in list(self.slots):
            self._remove(slot)

    def _lose(
        self, slot: ActorSlot, suspects: Sequence[Work], reason: str, node_died: bool
    ) -> Death:
        self._remove(slot)
        for work in suspects:
            work.died()
        return Death(ActorDied(slot.info, reason, node_died), tuple(slot.busy.values()))

    def _remove(self, slot: ActorSlot) -> None:
        self.slots.remove(slot)
        slot.kill()


def _start(size: PoolSize, assignment: Assignment) -> ActorSlot:
    """Ask Ray for an actor. Until the cluster has room, autoscalers see it as demand.

    Ray never restarts it: the pool has to see and count every death.
    """
    options: dict[str, Any] = {
        "num_cpus": size.cpus,
        "num_gpus": size.gpus,
        "max_restarts": 0,
        "max_task_retries": 0,
        "max_concurrency": _CONCURRENCY,
    }
    actor_class: Any = ray.remote(LabelActor)
    handle = actor_class.options(**options).remote()
    return ActorSlot(handle, handle.setup.remote(assignment))


def _settled(error: RayError, slot: ActorSlot) -> RayError:
    """What has become of an actor that could not be reached.

    When a machine is lost, its actors are "unavailable" first, and for some seconds Ray does not
    know yet whether the process or the node has died. Only the former counts against a chunk.
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
