"""What a driver asks of an actor: one chunk, and what is known about it."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.pipeline.record.chunks import Chunk
from jobs.pipeline.shards import Shard


@dataclass(frozen=True)
class ChunkOrder:
    """One chunk to be labelled.

    Attributes:
        shard: the shard, as it was listed.
        chunk: which of its images.
        crashed: positions in the chunk of images known to kill the process; they are not touched.
        careful: pass images to the labeler one at a time.
        redo: there is a part file already; it is replaced, and only its failed images are done
            again.
        partial: some rows were saved when a run was stopped.
    """

    shard: Shard
    chunk: Chunk
    crashed: frozenset[int] = frozenset()
    careful: bool = False
    redo: bool = False
    partial: bool = False
