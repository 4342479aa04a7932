"""What the scheduler hands out: chunks, what is known of their deaths, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from jobs.pipeline.drive.planning import PendingShard
from jobs.pipeline.label.actor import ActorInfo, ChunkResult
from jobs.pipeline.record.orders import ChunkOrder

MOST_DEATHS = 2
"""Deaths of actors after which a chunk is tried one image at a time."""
MOST_ERRORS = 3
"""Times that a chunk may raise before it is given up."""
MOST_ROUNDS = 2
"""Times that all images of a chunk are tried one by one."""


@dataclass(slots=True)
class Isolation:
    """The state of a chunk that is tried one image at a time, because it killed two actors.

    When all images have been tried, the chunk is labelled without the crashed ones.

    Attributes:
        position: the image being tried; a death adds it to ``crashed``.
        rounds: how often all have been tried and the chunk still killed an actor.
        crashed: positions of the images that killed an actor.
    """

    position: int = 0
    rounds: int = 0
    crashed: set[int] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class Work:
    """A chunk still to be committed.

    Attributes:
        order: what to do.
        deaths: actors that died with it and may have died of it.
        errors: times that it raised.
        isolation: set once it is tried one image at a time.
    """

    order: ChunkOrder
    deaths: int = 0
    errors: int = 0
    isolation: Isolation | None = None

    @property
    def exclusive(self) -> bool:
        """Whether it gets an actor of its own, because an actor died with it.

        The next death is then its own and not its neighbour's.
        """
        return self.deaths > 0

    @property
    def probing(self) -> int | None:
        """The image to be tried next, or None when the chunk itself is to be labelled."""
        state = self.isolation
        return state.position if state and state.position < self.order.chunk.count else None

    def current_order(self) -> ChunkOrder:
        """The order, without the images that are known to crash."""
        if self.isolation is None:
            return self.order
        return replace(self.order, crashed=frozenset(self.isolation.crashed), careful=True)

    def survived_probe(self) -> None:
        """The image that was tried alone did not kill the actor: go on to the next."""
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
        """Each image alone is survived, all together are not: try again, then give up on all."""
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
    """A shard was listed."""

    plan: PendingShard


@dataclass(frozen=True, slots=True)
class ChunkDone:
    """A chunk was committed, or had been before."""

    result: ChunkResult
    actor: ActorInfo


@dataclass(frozen=True, slots=True)
class ChunkGivenUp:
    """A chunk raised too often; the same command tries it again.

    Attributes:
        shard_id: names the chunk, together with ``number``.
        number: counts from 0 within the shard.
        images: in the chunk.
        reason: what it raised last.
    """

    shard_id: str
    number: int
    images: int
    reason: str


@dataclass(frozen=True, slots=True)
class ActorDied:
    """An actor is gone.

    Attributes:
        actor: None if it died before it was ready.
        reason: one line for a person.
        node_died: whether its whole node is gone.
    """

    actor: ActorInfo | None
    reason: str
    node_died: bool


@dataclass(frozen=True, slots=True)
class Waiting:
    """No actor is ready; ``reason`` says what is missing."""

    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """The state after a round of the scheduler, for displays.

    Attributes:
        actors_ready: that can be given work.
        actors_wanted: including those that are starting.
        chunks_queued: that no actor has.
        chunks_in_flight: that actors are working on.
    """

    actors_ready: int
    actors_wanted: int
    chunks_queued: int
    chunks_in_flight: int


Event = ShardPlanned | ChunkDone | ChunkGivenUp | ActorDied | Waiting | Tick
