"""Finds actors that live but make no progress: a labeler that hangs, a call that never returns."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import ray
from ray.exceptions import RayError

from jobs.pipeline.drive.slot import ActorSlot
from jobs.pipeline.drive.work import Work

# Questions per limit: a stall is noticed at most a quarter of the limit late.
_QUESTIONS = 4
_RAREST = 30.0

ChunkId = tuple[str, int]
"""Shard id and number."""


class Watchdog:
    """Asks every busy actor now and then how far its chunks are.

    An actor that does not answer, because its process is stopped or something holds the
    interpreter's lock, makes no progress either.

    Args:
        limit: seconds without a step after which a chunk counts as stalled; 0: never.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._asked: dict[ActorSlot, ray.ObjectRef] = {}
        self._steps: dict[Work, tuple[ActorSlot, int, float]] = {}
        self._next = 0.0

    def stalled(self, slots: Sequence[ActorSlot]) -> Iterator[tuple[ActorSlot, list[Work]]]:
        """Actors with the chunks that made no step for ``limit`` seconds. Cheap; call it often."""
        if not self._limit:
            return
        self._hear()
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + min(_RAREST, self._limit / _QUESTIONS)
        self._forget(slots)
        for slot in slots:
            stuck = [work for work in slot.busy.values() if self._is_stuck(slot, work, now)]
            if stuck:
                yield slot, stuck
            elif slot.busy and slot not in self._asked:
                self._asked[slot] = slot.handle.progress.remote()

    def _is_stuck(self, slot: ActorSlot, work: Work, now: float) -> bool:
        known = self._steps.get(work)
        if known is None or known[0] is not slot:
            self._steps[work] = (slot, -1, now)
            return False
        return now - known[2] >= self._limit

    def _hear(self) -> None:
        answers = {ref: slot for slot, ref in self._asked.items()}
        done, _ = (
            ray.wait(list(answers), num_returns=len(answers), timeout=0) if answers else ([], [])
        )
        for ref in done:
            slot = answers[ref]
            del self._asked[slot]
            try:
                steps: dict[ChunkId, int] = ray.get(ref)
            except RayError:
                continue  # its chunks will tell the scheduler what happened
            self._note(slot, steps)

    def _note(self, slot: ActorSlot, steps: dict[ChunkId, int]) -> None:
        for work in slot.busy.values():
            chunk = work.order.chunk
            now_at = steps.get((chunk.shard_id, chunk.number), -1)
            known = self._steps.get(work)
            if known is None or known[:2] != (slot, now_at):
                self._steps[work] = (slot, now_at, time.monotonic())

    def _forget(self, slots: Sequence[ActorSlot]) -> None:
        busy = {work for slot in slots for work in slot.busy.values()}
        self._steps = {work: known for work, known in self._steps.items() if work in busy}
        alive = set(slots)
        self._asked = {slot: ref for slot, ref in self._asked.items() if slot in alive}
