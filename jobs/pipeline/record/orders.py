"""What a driver asks of an actor: one chunk, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.pipeline.record.chunks import Chunk
from jobs.pipeline.shards import Shard


@dataclass(frozen=True)
class ChunkOrder:
    """One chunk to be labelled.

    Attributes:
        crashed: positions in the chunk of images known to kill the process; they are not touched.
        careful: one image at a time through the labeler.
        redo: there is a part file already; it is replaced, and what failed in it is done again.
        partial: rows of it were kept when a run was stopped.
    """

    shard: Shard
    chunk: Chunk
    crashed: frozenset[int] = frozenset()
    careful: bool = False
    redo: bool = False
    partial: bool = False
