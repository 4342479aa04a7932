"""What an output should hold against what it holds, shard by shard, from storage alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from jobs.pipeline.record.chunks import Chunk, first_images
from jobs.pipeline.record.index import KEY, KeptIndex, load_index
from jobs.pipeline.record.layout import INDEX_FOLDER, MANIFEST, Layout
from jobs.pipeline.record.parts import UnreadableError, read_about, read_schema
from jobs.pipeline.record.run import read_manifest
from jobs.pipeline.storage.store import Entry, Store, StoreError
from tddfa3.errors import UserError

PARALLEL = 16


@dataclass
class ShardLedger:
    """One shard of the run.

    Attributes:
        chunks: that there will be.
        parts: part files that are there, by name.
        error: why the shard could not be listed to its end, or None.
    """

    layout: Layout
    index: KeptIndex
    chunks: list[Chunk]
    parts: dict[str, Entry]
    error: str | None

    @property
    def id(self) -> str:
        return self.index.shard.id

    @property
    def images(self) -> int:
        return sum(chunk.count for chunk in self.chunks)

    @property
    def missing(self) -> list[Chunk]:
        return [chunk for chunk in self.chunks if self.layout.part(chunk) not in self.parts]

    @property
    def strangers(self) -> list[str]:
        """Part files that belong to no chunk."""
        expected = {self.layout.part(chunk) for chunk in self.chunks}
        expected.add(self.layout.error_part(self.id))
        return sorted(set(self.parts) - expected)


@dataclass
class Counts:
    """Sums of what part files say about themselves."""

    images: int = 0
    faces: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    shard_errors: int = 0

    def add(self, counts: dict[str, Any]) -> None:
        self.images += counts["images"]
        self.faces += counts["faces"]
        self.statuses.update(counts["status"])
        self.shard_errors += counts["shard_errors"]


def open_output(url: str, s3_endpoint: str | None) -> tuple[Store, dict[str, Any]]:
    """An output and its manifest. Raises UserError when there is no run."""
    store = Store.open(url, s3_endpoint=s3_endpoint)
    manifest = read_manifest(store)
    if manifest is None:
        raise UserError(f"{url}: no run there ({MANIFEST} is missing)")
    return store, manifest


def ledgers(store: Store, manifest: dict[str, Any]) -> Iterator[ShardLedger]:
    """Of every shard that has been listed, in the order in which a run takes them."""
    config, layout = manifest["config"], Layout.of(manifest)
    limits = config["chunk_images"], config["chunk_bytes"]
    left = config["limit"] or None
    for shard_id in _shard_ids(store):
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


def footers(store: Store, shard: ShardLedger) -> Iterator[dict[str, Any] | UserError]:
    """What each part file of a shard says about itself, or why it can't be read."""

    def read(entry: Entry) -> dict[str, Any] | UserError:
        try:
            return read_about(store, entry.rel, entry.size)
        except (StoreError, UnreadableError) as error:
            return error

    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="footers") as pool:
        yield from pool.map(read, shard.parts.values())


def _shard_ids(store: Store) -> list[str]:
    """In the order in which a run takes them; file names, where escaped, sort otherwise."""

    def read(entry: Entry) -> str:
        metadata = read_schema(store, entry.rel, entry.size).metadata
        return str(json.loads(metadata[KEY])["shard"]["id"])

    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="indexes") as pool:
        return sorted(pool.map(read, store.list(INDEX_FOLDER)))
