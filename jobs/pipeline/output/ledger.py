"""Compares what a run should hold with what it holds, shard by shard, from storage alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jobs.pipeline.output.reading import LabelledRun, in_parallel
from jobs.pipeline.record.chunks import Chunk, first_images
from jobs.pipeline.record.index import KeptIndex, load_index
from jobs.pipeline.record.layout import INDEX_FOLDER, MANIFEST, Layout
from jobs.pipeline.record.parts import UnreadableError
from jobs.pipeline.storage.store import Entry, StoreError
from tddfa3.errors import UserError


@dataclass
class ShardLedger:
    """One shard of the run.

    Attributes:
        layout: names of the run's files.
        index: the shard's list of images.
        chunks: all that there will be.
        parts: part files that exist, by name.
        error: why the shard could not be listed to its end, or None.
    """

    layout: Layout
    index: KeptIndex
    chunks: list[Chunk]
    parts: dict[str, Entry]
    error: str | None

    @property
    def id(self) -> str:
        """The shard's id."""
        return self.index.shard.id

    @property
    def images(self) -> int:
        """How many of its images belong to the run."""
        return sum(chunk.count for chunk in self.chunks)

    @property
    def missing(self) -> list[Chunk]:
        """Chunks without a part file."""
        return [chunk for chunk in self.chunks if self.layout.part(chunk) not in self.parts]

    @property
    def strangers(self) -> list[str]:
        """Part files that belong to no chunk."""
        expected = {self.layout.part(chunk) for chunk in self.chunks}
        expected.add(self.layout.error_part(self.id))
        return sorted(set(self.parts) - expected)


def ledgers(run: LabelledRun) -> Iterator[ShardLedger]:
    """A ledger for every shard that has been listed, in the order in which a run takes them.

    Raises:
        UserError: the output has no manifest, which says what it should hold.
    """
    if run.manifest is None:
        raise UserError(f"{run.store.url}: no run there ({MANIFEST} is missing)")
    config, store, layout = run.manifest["config"], run.store, run.layout
    limits = config["chunk_images"], config["chunk_bytes"]
    left = config["limit"] or None
    # Escaped file names are sorted differently from ids.
    abouts = run.about_indexes(store.list(INDEX_FOLDER))
    for shard_id in sorted(about["shard"]["id"] for about in abouts):
        index = load_index(store, layout.index(shard_id))
        if index is None:
            continue
        chunks, error = index.chunks(*limits), index.error
        if left is not None:
            error = error if left >= index.images else None
            chunks = first_images(chunks, left)
            left -= sum(chunk.count for chunk in chunks)
        folder = layout.annotations(shard_id)
        parts = {entry.rel: entry for entry in store.list(folder, recursive=False)}
        yield ShardLedger(layout, index, chunks, parts, error)


def shards_not_listed(run: LabelledRun, listed: int, images: int) -> int:
    """How many shards of the input nothing is known about yet.

    Args:
        run: the output.
        listed: shards that are known.
        images: in those shards; a run with ``--limit`` may need no more.
    """
    if run.manifest is None:
        return 0
    limit = run.manifest["config"]["limit"]
    if limit and images >= limit:
        return 0
    return max(0, run.manifest["input"]["shards"] - listed)


def footers(run: LabelledRun, shard: ShardLedger) -> Iterator[dict[str, Any] | UserError]:
    """What each part file of a shard says about itself, or why it can't be read."""

    def read(entry: Entry) -> dict[str, Any] | UserError:
        try:
            return run.about_part(entry)
        except (StoreError, UnreadableError) as error:
            return error

    return in_parallel(read, shard.parts.values())
