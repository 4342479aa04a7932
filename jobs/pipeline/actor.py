"""LabelActor: one chunk of a shard in, one committed part file out.

A chunk's way: read its span -> decode ahead -> label in batches -> make and publish objects ->
publish the part file, which is the commit. An actor is given two chunks at a time, each in a thread
of its own: while one has the networks, the other reads and decodes, or encodes and publishes.
"""

from __future__ import annotations

import os
import platform
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from jobs.pipeline.batching import BatchLabeler, label_in_batches
from jobs.pipeline.chunks import part_name
from jobs.pipeline.config import LabelConfig
from jobs.pipeline.engine import Engine
from jobs.pipeline.index import index_name, load_index
from jobs.pipeline.loading import ImageLoader, LoadedImage, Stopwatch
from jobs.pipeline.objects import ObjectWriter, image_files
from jobs.pipeline.parts import encode_part, read_footer, read_part
from jobs.pipeline.planning import ChunkOrder
from jobs.pipeline.rows import ImageRecord, Row, image_rows, to_table
from jobs.pipeline.schema import OK_STATUSES, LabelSchema
from jobs.pipeline.shards import Member, ReadOptions, read_members
from jobs.pipeline.store import Store, StoreError

if TYPE_CHECKING:
    from tddfa3.face import Face


@dataclass(frozen=True)
class Assignment:
    """What all actors of a run are given."""

    config: LabelConfig
    engine: Engine
    schema: LabelSchema
    store: Store
    read_options: ReadOptions
    threads: int


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """What passes through the driver: counts, never images or rows."""

    shard_id: str
    number: int
    counts: dict[str, Any]
    seconds: dict[str, float]
    memory: int
    already_done: bool


@dataclass(frozen=True, slots=True)
class ActorInfo:
    pid: int
    host: str
    node_id: str


class LabelActor:
    """Wrapped by ``ray.remote`` in the scheduler; a plain class otherwise."""

    def setup(self, assignment: Assignment) -> ActorInfo:
        """Builds the networks; work is sent only after this has returned.

        Not in the constructor: what a constructor raises arrives as the death of the actor, and
        its message as a page of text.
        """
        self._task = assignment
        threads = assignment.threads
        # Ray sets OMP_NUM_THREADS to 1 for actors of one CPU; the engine sets its own libraries'.
        os.environ["OMP_NUM_THREADS"] = str(threads)
        # Damaged files make Pillow warn of what their row will say anyway.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        labeler = assignment.engine.build(assignment.config, threads)
        self._computed_with: dict[str, str] = getattr(labeler, "computed_with", {})
        self._labeler = BatchLabeler(labeler, assignment.config.batch)
        self._networks = threading.Lock()
        self._decoders = ThreadPoolExecutor(threads, thread_name_prefix="decoding")
        self._encoders = ThreadPoolExecutor(threads, thread_name_prefix="rows")
        self._objects = ObjectWriter(assignment.store, threads)
        return ActorInfo(os.getpid(), platform.node(), _node_id())

    def label_chunk(self, order: ChunkOrder) -> ChunkResult:
        """Labels and commits a chunk, unless somebody has committed it already."""
        store, rel = self._task.store, part_name(order.chunk)
        if not order.redo and store.exists(rel):
            return self._result(order, {}, already_done=True)
        watch = Stopwatch()
        members = self._members(order)
        rows_of = self._kept_rows(order) if order.redo else {}
        todo = [p for p, m in enumerate(members) if m.key not in rows_of and p not in order.crashed]
        rows_of |= {members[p].key: [_crashed_row(order, members[p])] for p in order.crashed}
        rows_of |= self._label(order, members, todo, watch)
        with watch.timed("encode"):
            about = {"chunk": _described(order), "computed_with": self._computed_with}
            rows = [row for member in members for row in rows_of[member.key]]
            data = encode_part(to_table(rows, self._task.schema, about))
        with watch.timed("publish"):
            if order.redo:
                store.publish(rel, data)
            else:
                store.publish_new(rel, data)
        return self._result(order, watch.seconds)

    def probe(self, order: ChunkOrder, position: int) -> int:
        """Labels one image and keeps nothing; that the process survives it is the answer."""
        members = self._members(order)
        for _, _ in self._outcomes(order, members, [position], Stopwatch()):
            pass
        return position

    def _members(self, order: ChunkOrder) -> list[Member]:
        kept = load_index(self._task.store, order.chunk.shard_id)
        if kept is None or kept.difference(order.shard) is not None:
            why = "another run listed this shard anew; start the command again"
            raise StoreError("failed", self._task.store.uri(index_name(order.shard.id)), why)
        return kept.members(order.chunk.first, order.chunk.count)

    def _kept_rows(self, order: ChunkOrder) -> dict[str, list[Row]]:
        """The rows of images that need not be done again, by key."""
        kept: dict[str, list[Row]] = {}
        for row in read_part(self._task.store.read(part_name(order.chunk))).to_pylist():
            if row["status"] in OK_STATUSES:
                kept.setdefault(row["key"], []).append(row)
        return kept

    def _label(
        self, order: ChunkOrder, members: Sequence[Member], todo: Sequence[int], watch: Stopwatch
    ) -> dict[str, list[Row]]:
        """The rows of the images ``todo``, by key; the files they name are published by then."""
        pending = {
            loaded.record.key: self._pending_rows(order, loaded, outcome)
            for loaded, outcome in self._outcomes(order, members, todo, watch)
        }
        with watch.timed("objects"):
            return {key: rows.result() for key, rows in pending.items()}

    def _outcomes(
        self, order: ChunkOrder, members: Sequence[Member], todo: Sequence[int], watch: Stopwatch
    ) -> Iterator[tuple[LoadedImage, list[Face] | Exception | None]]:
        """Reads and decodes at once, labels as soon as the other chunk lets go of the networks."""
        read = partial(
            read_members, order.shard, [members[p] for p in todo], self._task.read_options
        )
        max_pixels = self._task.config.max_pixels
        size = 1 if order.careful else self._labeler.size
        with ImageLoader(read, order.shard.id, max_pixels, self._decoders, watch) as images:
            with watch.timed("queue"):
                self._networks.acquire()
            try:
                yield from label_in_batches(images, self._labeler, size, watch)
            finally:
                self._networks.release()

    def _pending_rows(
        self, order: ChunkOrder, loaded: LoadedImage, outcome: list[Face] | Exception | None
    ) -> PendingRows:
        """Rows are made in threads, so that the networks do not wait for PNG and Python."""
        record = loaded.record
        if loaded.failure is not None:
            status, error = loaded.failure.status, loaded.failure.error
            return PendingRows(self._encoders.submit(lambda: [record.row(status, error)]))
        if isinstance(outcome, Exception):
            message = _message(outcome)
            return PendingRows(self._encoders.submit(lambda: [record.row("label_error", message)]))
        faces = outcome or []
        pending = PendingRows(self._encoders.submit(image_rows, record, faces))
        if loaded.image is not None and faces:
            files = image_files(self._task.config, record, loaded.image, faces)
            pending.files = [(named, self._objects.submit(file)) for named, file in files]
        return pending

    def _result(
        self, order: ChunkOrder, seconds: dict[str, float], *, already_done: bool = False
    ) -> ChunkResult:
        """Counts as the published part file states them, whoever wrote it."""
        rel = part_name(order.chunk)
        size, _ = self._task.store.size_etag(rel)
        counts = read_footer(self._task.store, rel, size)["counts"]
        chunk = order.chunk
        memory = memory_in_use()
        return ChunkResult(chunk.shard_id, chunk.number, counts, seconds, memory, already_done)


@dataclass(slots=True)
class PendingRows:
    """The rows of one image, complete once the files that they name are published."""

    rows: Future[list[Row]]
    files: list[tuple[Sequence[int], Future[Row]]] = field(default_factory=list)
    """Indices of the rows that name a file, and what it adds to them."""

    def result(self) -> list[Row]:
        rows = self.rows.result()
        for named, file in self.files:
            for index in named:
                rows[index] |= file.result()
        return rows


def memory_in_use() -> int:
    """Resident bytes of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _crashed_row(order: ChunkOrder, member: Member) -> Row:
    why = "the process that labelled this image died, each time it was tried"
    return ImageRecord(order.shard.id, member.key).row("crashed", why)


def _message(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]


def _described(order: ChunkOrder) -> dict[str, Any]:
    chunk, shard = order.chunk, order.shard
    return {
        "shard": chunk.shard_id,
        "shard_etag": shard.etag,
        "number": chunk.number,
        "first": chunk.first,
        "count": chunk.count,
        "span": [chunk.offset_lo, chunk.offset_hi],
    }


def _node_id() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else ""
