"""One actor as the driver sees it: starting, ready, busy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import ray

from jobs.pipeline.drive.work import Work
from jobs.pipeline.label.actor import ActorInfo


@dataclass(slots=True, eq=False)
class ActorSlot:
    """One actor, as the driver sees it.

    Attributes:
        handle: Ray's handle of it.
        setup: the result of its set-up.
        info: None while it waits for resources or builds its networks.
        busy: chunks at work, by the reference of their results.
        retiring: gets no more work, and is replaced when it has none.
        node_answered: its node's raylet could be connected to once; only then does it mean
            something if it no longer can.
    """

    handle: Any
    setup: ray.ObjectRef
    info: ActorInfo | None = None
    busy: dict[ray.ObjectRef, Work] = field(default_factory=dict)
    retiring: bool = False
    node_answered: bool = False

    @property
    def ready(self) -> bool:
        """Whether it can be given work."""
        return self.info is not None and not self.retiring

    def send(self, work: Work) -> None:
        """Give it a chunk, or the image of a chunk that is to be tried alone."""
        position = work.probing
        if position is None:
            ref = self.handle.label_chunk.remote(work.current_order())
        else:
            ref = self.handle.probe.remote(work.current_order(), position)
        self.busy[ref] = work

    def kill(self) -> None:
        """End its process; Ray will not restart it."""
        ray.kill(self.handle, no_restart=True)
