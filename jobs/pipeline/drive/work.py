"""What the scheduler hands out: chunks, what is known of their deaths, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from jobs.pipeline.drive.planning import PendingShard
from jobs.pipeline.label.actor import ActorInfo, ChunkResult
from jobs.pipeline.record.orders import ChunkOrder

MOST_DEATHS = 2
MOST_ERRORS = 3
MOST_ROUNDS = 2


@dataclass(slots=True)
class Isolation:
    """A chunk that killed two actors, on its way through one image at a time.

    ``position`` is the image being tried; a death makes it one of the ``crashed``. When all have
    been tried, the chunk is labelled without the crashed ones.
    """

    position: int = 0
    rounds: int = 0
    crashed: set[int] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class Work:
    """A chunk still to be committed."""

    order: ChunkOrder
    deaths: int = 0
    errors: int = 0
    isolation: Isolation | None = None

    @property
    def exclusive(self) -> bool:
        """A chunk that was there when an actor died gets an actor for itself, so that the next
        death is its own and not its neighbour's."""
        return self.deaths > 0

    @property
    def probing(self) -> int | None:
        """The image to be tried next, or None when the chunk itself is to be labelled."""
        state = self.isolation
        return state.position if state and state.position < self.order.chunk.count else None

    def current_order(self) -> ChunkOrder:
        if self.isolation is None:
            return self.order
        return replace(self.order, crashed=frozenset(self.isolation.crashed), careful=True)

    def survived_probe(self) -> None:
        self._advance()

    def died(self) -> None:
        """The actor's process ended while it had this chunk, and the chunk may be the cause."""
        self.deaths += 1
        if self.isolation is None:
            if self.deaths >= MOST_DEATHS:
                self.isolation = Isolation()
        elif self.probing is not None:
            self.isolation.crashed.add(self.isolation.position)
            self._advance()
        else:
            self._died_without_culprit(self.isolation)

    def _died_without_culprit(self, state: Isolation) -> None:
        """Each image alone is survived, all together are not: try again, then give them all up."""
        state.rounds += 1
        if state.rounds < MOST_ROUNDS:
            state.position = -1
            self._advance()
        else:
            state.crashed.update(range(self.order.chunk.count))

    def _advance(self) -> None:
        state = self.isolation
        assert state is not None
        state.position += 1
        while state.position in state.crashed:
            state.position += 1


@dataclass(frozen=True, slots=True)
class ShardPlanned:
    plan: PendingShard


@dataclass(frozen=True, slots=True)
class ChunkDone:
    result: ChunkResult
    actor: ActorInfo


@dataclass(frozen=True, slots=True)
class ChunkGivenUp:
    shard_id: str
    number: int
    images: int
    reason: str


@dataclass(frozen=True, slots=True)
class ActorDied:
    actor: ActorInfo | None
    reason: str
    node_died: bool


@dataclass(frozen=True, slots=True)
class Waiting:
    """No actor is ready; ``reason`` says what is missing."""

    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Nothing happened, or all that did has been told; for displays."""

    actors_ready: int
    actors_wanted: int
    chunks_queued: int
    chunks_in_flight: int


Event = ShardPlanned | ChunkDone | ChunkGivenUp | ActorDied | Waiting | Tick
