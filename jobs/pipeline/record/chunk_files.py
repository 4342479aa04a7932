"""What an output holds of one chunk: its list of images, its part file, rows kept by a stop."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from jobs.pipeline.record.index import load_index
from jobs.pipeline.record.layout import Layout
from jobs.pipeline.record.orders import ChunkOrder
from jobs.pipeline.record.partial import by_key, read_partial, save_partial
from jobs.pipeline.record.parts import UnreadableError, read_about, read_part
from jobs.pipeline.record.rows import Row
from jobs.pipeline.record.schema import OK_STATUSES, LabelSchema
from jobs.pipeline.shards import Member
from jobs.pipeline.storage.store import Store, StoreError


class ChunkFiles:
    """The files of an ordered chunk; every call reads or writes the storage.

    All methods raise StoreError when the storage fails.
    """

    def __init__(self, store: Store, layout: Layout, order: ChunkOrder) -> None:
        self._store, self._layout, self._order = store, layout, order
        self._part = layout.part(order.chunk)

    @property
    def committed(self) -> bool:
        """Whether somebody has published the part file already, so that nothing is to do."""
        return not self._order.redo and self._store.exists(self._part)

    def members(self) -> list[Member]:
        """The chunk's images, as they were listed.

        Raises:
            StoreError: another run has listed the shard again.
        """
        rel = self._layout.index(self._order.chunk.shard_id)
        kept = load_index(self._store, rel)
        if kept is None or kept.difference(self._order.shard) is not None:
            why = "another run listed this shard anew; start the command again"
            raise StoreError("failed", self._store.uri(rel), why)
        return kept.members(self._order.chunk.first, self._order.chunk.count)

    def kept_rows(self) -> dict[str, list[Row]]:
        """Rows that need not be made again, by the key of their image.

        They come from the part file of a chunk that is redone, and from what a stop request saved.
        """
        kept: dict[str, list[Row]] = {}
        if self._order.redo:
            # Nothing is kept of a part file that cannot be read.
            with suppress(UnreadableError):
                rows = read_part(self._store, self._part).to_pylist()
                kept = by_key([row for row in rows if row["status"] in OK_STATUSES])
        if self._order.partial:
            rel = self._layout.partial(self._order.chunk)
            kept |= read_partial(self._store, rel, self._order.shard)
        return kept

    def publish(self, data: bytes | memoryview) -> None:
        """Commit the chunk; what another driver has committed meanwhile stays."""
        if self._order.redo:
            self._store.publish(self._part, data)
        else:
            self._store.publish_new(self._part, data)
        if self._order.partial:
            self._store.delete(self._layout.partial(self._order.chunk))

    def keep(self, rows: Sequence[Row], schema: LabelSchema) -> None:
        """Save the rows of a chunk that will not be finished now."""
        rel = self._layout.partial(self._order.chunk)
        save_partial(self._store, rel, self._order.shard, rows, schema)

    def counts(self) -> dict[str, Any]:
        """The counts in the published part file, whichever run wrote it."""
        size, _ = self._store.size_etag(self._part)
        counts: dict[str, Any] = read_about(self._store, self._part, size)["counts"]
        return counts
