"""One actor as the driver sees it: starting, ready, busy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import ray

from jobs.pipeline.drive.work import Work
from jobs.pipeline.label.actor import ActorInfo


@dataclass(slots=True, eq=False)
class ActorSlot:
    """One actor. It may still be waiting for resources or building; then ``info`` is None.

    Attributes:
        busy: chunks at work, by the reference of their results.
        retiring: gets no more work, and is replaced when it has none.
        node_answered: its node's raylet could be connected to, so that it means something if it no
            longer can.
    """

    handle: Any
    setup: ray.ObjectRef
    info: ActorInfo | None = None
    busy: dict[ray.ObjectRef, Work] = field(default_factory=dict)
    retiring: bool = False
    node_answered: bool = False

    @property
    def ready(self) -> bool:
        return self.info is not None and not self.retiring

    def send(self, work: Work) -> None:
        position = work.probing
        if position is None:
            ref = self.handle.label_chunk.remote(work.current_order())
        else:
            ref = self.handle.probe.remote(work.current_order(), position)
        self.busy[ref] = work

    def kill(self) -> None:
        ray.kill(self.handle, no_restart=True)
