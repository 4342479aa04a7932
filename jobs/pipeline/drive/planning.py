"""From a shard to those of its chunks that are still to be done; one Ray task per shard."""

from __future__ import annotations

import json
from collections.abc import Container
from dataclasses import dataclass, replace

from jobs.pipeline.record.chunks import Chunk, cut, first_images
from jobs.pipeline.record.config import LabelConfig
from jobs.pipeline.record.index import load_index, save_index
from jobs.pipeline.record.layout import Layout
from jobs.pipeline.record.orders import ChunkOrder
from jobs.pipeline.record.parts import UnreadableError, encode_part, read_about
from jobs.pipeline.record.rows import ImageRecord, to_table
from jobs.pipeline.record.run import Run
from jobs.pipeline.record.schema import IMAGE_FAILURES, LabelSchema
from jobs.pipeline.shards import ReadOptions, Shard, ShardIndex, index_shard
from jobs.pipeline.storage.store import Store
from tddfa3.errors import UserError

_MOST_GENERATIONS = 1000


@dataclass(frozen=True, slots=True)
class PendingShard:
    """What is left of one shard.

    Attributes:
        shard: with the id under which its present content is labelled.
        images: those of the shard that belong to the run, done or not.
        chunks: those of the shard that belong to the run, committed or not.
        pending: the chunks that are not committed.
        error: why the shard could not be listed to its end, or None.
    """

    shard: Shard
    images: int
    chunks: int
    pending: tuple[ChunkOrder, ...]
    error: str | None


@dataclass(frozen=True, slots=True)
class _Listed:
    """A shard's chunks; ``was_broken``: an earlier listing did not reach the shard's end."""

    shard: Shard
    chunks: list[Chunk]
    error: str | None
    was_broken: bool


@dataclass(frozen=True)
class Planner:
    """What planning needs to know of the run; picklable.

    Attributes:
        config: the run's.
        schema: of the rows.
        store: the output.
        layout: names of the files in it.
        read_options: how shards are read.
    """

    config: LabelConfig
    schema: LabelSchema
    store: Store
    layout: Layout
    read_options: ReadOptions

    @classmethod
    def of(cls, run: Run) -> Planner:
        """The planner of a run."""
        return cls(run.config, run.schema, run.store, run.layout, run.read_options)

    def plan(
        self, shard: Shard, limit: int | None = None, unlistable: str | None = None
    ) -> PendingShard:
        """List the shard, or load the list that is kept, and find what is not committed.

        Args:
            shard: as it is now.
            limit: only so many of its images belong to the run; None: all.
            unlistable: why listing is not tried again: it killed the process. None: list it.

        Raises:
            UserError: its content changed since it was first seen, without ``--accept-changed``.
            StoreError: fatal kinds only; a shard that can't be read is a plan with an ``error``.
        """
        listed = self._current(shard, unlistable)
        shard, chunks, error = listed.shard, listed.chunks, listed.error
        if limit is not None and limit < sum(chunk.count for chunk in chunks):
            chunks, error = first_images(chunks, limit), None
        folder = self.layout.annotations(shard.id)
        parts = {entry.rel: entry.size for entry in self.store.list(folder, recursive=False)}
        self._state_error(shard, error, parts)
        unfinished = self._unfinished(shard, parts)
        pending = tuple(
            ChunkOrder(
                shard,
                chunk,
                redo=self.layout.part(chunk) in parts,
                partial=self.layout.partial(chunk) in unfinished,
            )
            for chunk in chunks
            if self._is_pending(chunk, parts, listed.was_broken)
        )
        if pending:
            self._sweep(shard)
        return PendingShard(shard, sum(c.count for c in chunks), len(chunks), pending, error)

    def _unfinished(self, shard: Shard, parts: Container[str]) -> set[str]:
        """Saved rows of chunks that are not committed; those of committed ones are deleted."""
        kept = set()
        folder = self.layout.annotations(shard.id)
        for entry in self.store.list(self.layout.partials(shard.id), recursive=False):
            name = entry.rel.rpartition("/")[2]
            if f"{folder}/{name}" in parts:
                self.store.delete(entry.rel)
            else:
                kept.add(entry.rel)
        return kept

    def _sweep(self, shard: Shard) -> None:
        for folder in (self.layout.annotations(shard.id), *self.layout.objects(shard.id)):
            self.store.sweep(folder)

    def _is_pending(self, chunk: Chunk, parts: dict[str, int], was_broken: bool) -> bool:
        rel = self.layout.part(chunk)
        if rel not in parts:
            return True
        if not (was_broken or self.config.retry_failed):
            return False
        try:
            footer = read_about(self.store, rel, parts[rel])
        except UnreadableError:
            return True
        # The last chunk of a shard that was cut short may have more images by now.
        grown = footer["chunk"]["count"] != chunk.count
        return grown or any(footer["counts"]["status"].get(s) for s in IMAGE_FAILURES)

    def _state_error(self, shard: Shard, error: str | None, parts: Container[str]) -> None:
        """Write one row for the unreadable rest of a shard; delete it when there is none."""
        rel = self.layout.error_part(shard.id)
        if error is not None:
            row = ImageRecord(shard.id, "").row("shard_error", error) | {"key": None}
            about = {"chunk": {"shard": shard.id, "shard_etag": shard.etag, "count": 0}}
            self.store.publish(rel, encode_part(to_table([row], self.schema, about)))
        elif rel in parts:
            self.store.delete(rel)

    def _current(self, first: Shard, unlistable: str | None) -> _Listed:
        """The list of the shard's present content, made now unless it is kept.

        Content that changed gets an id of its own (``<id>@2``, ``@3``, ...): the rows of the old
        content are left alone, and no image of the new content counts as done.
        """
        for generation in range(1, _MOST_GENERATIONS):
            shard = first if generation == 1 else replace(first, id=f"{first.id}@{generation}")
            kept = load_index(self.store, self.layout.index(shard.id))
            if kept is None:
                if generation > 1:
                    self._supersede(first, shard)
                return self._list(shard, self._index(shard, unlistable), was_broken=False)
            changed = kept.difference(shard) is not None
            if not changed and kept.error is None:
                return _Listed(shard, kept.chunks(*self._limits), None, was_broken=False)
            if kept.error is not None:
                index = self._index(shard, unlistable)
                if not changed or _continues(kept.index, index):
                    return self._list(shard, index, was_broken=True)
        raise UserError(f"shard {first.id} changed too often; label it into another OUTPUT")

    def _index(self, shard: Shard, unlistable: str | None) -> ShardIndex:
        if unlistable is not None:
            return ShardIndex(shard.id, error=f"{unlistable}, at offset 0")
        return index_shard(shard, self.read_options)

    @property
    def _limits(self) -> tuple[int, int]:
        return self.config.chunk_images, self.config.chunk_bytes

    def _list(self, shard: Shard, index: ShardIndex, *, was_broken: bool) -> _Listed:
        save_index(self.store, self.layout.index(shard.id), shard, index, *self._limits)
        return _Listed(shard, cut(index, *self._limits), index.error, was_broken)

    def _supersede(self, old: Shard, new: Shard) -> None:
        """Mark ``old`` as replaced, so that readers skip rows of content that is gone."""
        if not self.config.accept_changed:
            raise UserError(
                f"shard {old.id} changed since this run first saw it; --accept-changed labels it "
                f"again (as {new.id}; the old rows stay), or choose another OUTPUT"
            )
        mark = {"shard": old.id, "by": new.id, "size": new.size, "etag": new.etag}
        self.store.publish(self.layout.superseded(new.id), json.dumps(mark).encode())


def _continues(old: ShardIndex, new: ShardIndex) -> bool:
    """Whether ``new`` begins with all members of ``old``, whose listing had broken off."""
    first = new.members[: len(old.members)]
    return [(m.key, m.offset) for m in old.members] == [(m.key, m.offset) for m in first]
