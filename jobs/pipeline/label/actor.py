"""LabelActor: one chunk of a shard in, one committed part file out.

A chunk's way: read its span -> decode ahead -> label in batches -> make and publish objects ->
publish the part file, which is the commit. An actor is given two chunks at a time, each in a thread
of its own: while one has the networks, the other reads and decodes, or encodes and publishes.
"""

from __future__ import annotations

import ctypes
import os
import platform
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from jobs.pipeline.label.batching import BatchLabeler, label_in_batches
from jobs.pipeline.label.factory import LabelerFactory
from jobs.pipeline.label.loading import ImageLoader, LoadedImage, Stopwatch
from jobs.pipeline.label.objects import ObjectWriter, image_files
from jobs.pipeline.record.chunk_files import ChunkFiles
from jobs.pipeline.record.config import LabelConfig
from jobs.pipeline.record.layout import Layout
from jobs.pipeline.record.orders import ChunkOrder
from jobs.pipeline.record.parts import encode_part
from jobs.pipeline.record.rows import ImageRecord, Row, image_rows, to_table
from jobs.pipeline.record.run import Run
from jobs.pipeline.record.schema import LabelSchema
from jobs.pipeline.shards import Member, ReadOptions, read_members
from jobs.pipeline.storage.store import Store

if TYPE_CHECKING:
    from tddfa3.face import Face

_STEP_SECONDS = 1.0
# Batches of decoded images that may wait for the networks, per chunk.
BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Assignment:
    """What all actors of a run are given."""

    config: LabelConfig
    factory: LabelerFactory
    schema: LabelSchema
    store: Store
    layout: Layout
    read_options: ReadOptions
    threads: int

    @classmethod
    def of(
        cls, run: Run, factory: LabelerFactory, threads: int, config: LabelConfig | None = None
    ) -> Assignment:
        """``config``: where actors need another one than the run's."""
        return cls(
            config or run.config,
            factory,
            run.schema,
            run.store,
            run.layout,
            run.read_options,
            threads,
        )


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
        labeler = assignment.factory.build(assignment.config, threads)
        self._computed_with = dict(labeler.computed_with)
        reduced = assignment.config.decode == "reduced"
        self._needed_side = labeler.needed_side if reduced else None
        self._labeler = BatchLabeler(labeler, assignment.config.batch)
        self._networks = threading.Lock()
        self._running: dict[tuple[str, int], RunningChunk] = {}
        self._decoders = ThreadPoolExecutor(threads, thread_name_prefix="decoding")
        self._encoders = ThreadPoolExecutor(threads, thread_name_prefix="rows")
        self._objects = ObjectWriter(assignment.store, threads)
        give_memory_back()
        return ActorInfo(os.getpid(), platform.node(), _node_id())

    def label_chunk(self, order: ChunkOrder) -> ChunkResult:
        """Labels and commits a chunk, unless somebody has committed it already."""
        files = self._files(order)
        if files.committed:
            return self._result(order, files.counts(), {}, already_done=True)
        with self._register(order) as running:
            return self._label_chunk(order, files, running)

    def _label_chunk(
        self, order: ChunkOrder, files: ChunkFiles, running: RunningChunk
    ) -> ChunkResult:
        watch = Stopwatch()
        members = files.members()
        rows_of = running.kept = files.kept_rows()
        todo = [p for p, m in enumerate(members) if m.key not in rows_of and p not in order.crashed]
        rows_of = rows_of | self._label(order, members, todo, watch, running)
        rows_of |= {members[p].key: [_crashed_row(order, members[p])] for p in order.crashed}
        with watch.timed("encode"):
            about = {"chunk": _described(order), "computed_with": self._computed_with}
            rows = [row for member in members for row in rows_of[member.key]]
            data = encode_part(to_table(rows, self._task.schema, about))
        running.step()
        with watch.timed("publish"):
            files.publish(data)
        del rows, rows_of, data
        running.forget()
        give_memory_back()
        return self._result(order, files.counts(), watch.seconds)

    def probe(self, order: ChunkOrder, position: int) -> int:
        """Labels one image and keeps nothing; that the process survives it is the answer."""
        with self._register(order) as running:
            members = self._files(order).members()
            for _, _ in self._outcomes(order, members, [position], Stopwatch(), running):
                pass
        return position

    def progress(self) -> dict[tuple[str, int], int]:
        """Steps that each running chunk has made; only that the number grows means anything."""
        return {chunk: running.steps for chunk, running in dict(self._running).items()}

    def save_unfinished(self) -> int:
        """Keeps what is done of the chunks at work, because the run is about to be stopped.

        Returns the number of images kept. Called while other threads go on labelling.
        """
        saved = 0
        for running in list(self._running.values()):
            order, rows_of = running.order, running.finished()
            # What is redone has a part file, which is complete.
            if rows_of and not order.redo:
                rows = [row for rows in rows_of.values() for row in rows]
                self._files(order).keep(rows, self._task.schema)
                saved += len(rows_of)
        return saved

    @contextmanager
    def _register(self, order: ChunkOrder) -> Iterator[RunningChunk]:
        chunk = (order.chunk.shard_id, order.chunk.number)
        self._running[chunk] = running = RunningChunk(order)
        try:
            yield running
        finally:
            del self._running[chunk]

    def _files(self, order: ChunkOrder) -> ChunkFiles:
        return ChunkFiles(self._task.store, self._task.layout, order)

    def _label(
        self,
        order: ChunkOrder,
        members: Sequence[Member],
        todo: Sequence[int],
        watch: Stopwatch,
        running: RunningChunk,
    ) -> dict[str, list[Row]]:
        """The rows of the images ``todo``, by key; the files they name are published by then."""
        for loaded, outcome in self._outcomes(order, members, todo, watch, running):
            running.pending[loaded.record.key] = self._pending_rows(loaded, outcome, watch)
        with watch.timed("objects"):
            rows_of = {}
            for key, rows in running.pending.items():
                rows_of[key] = rows.result()
                running.step()
            return rows_of

    def _outcomes(
        self,
        order: ChunkOrder,
        members: Sequence[Member],
        todo: Sequence[int],
        watch: Stopwatch,
        running: RunningChunk,
    ) -> Iterator[tuple[LoadedImage, list[Face] | Exception | None]]:
        """Reads and decodes at once, labels as soon as the other chunk lets go of the networks."""
        read = partial(
            read_members, order.shard, [members[p] for p in todo], self._task.read_options
        )
        max_pixels = self._task.config.max_pixels
        size = 1 if order.careful else self._labeler.size
        ahead = BATCHES_AHEAD * self._labeler.size
        with ImageLoader(
            read, order.shard.id, max_pixels, self._decoders, watch, ahead, self._needed_side
        ) as images:
            with watch.timed("queue"):
                while not self._networks.acquire(timeout=_STEP_SECONDS):
                    running.step()  # whether the other chunk gets on is its own affair
            try:
                for labelled in label_in_batches(images, self._labeler, size, watch):
                    running.step()
                    yield labelled
            finally:
                self._networks.release()

    def _pending_rows(
        self, loaded: LoadedImage, outcome: list[Face] | Exception | None, watch: Stopwatch
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
        pending = PendingRows(self._encoders.submit(_timed_rows, record, faces, watch))
        if loaded.image is not None and faces:
            parts = self._task.schema.facts.part_names
            stem = self._task.layout.stem(record.shard, record.key)
            files = image_files(self._task.config, stem, loaded.image, faces, parts)
            pending.files = [(named, self._objects.submit(file, watch)) for named, file in files]
        return pending

    def _result(
        self,
        order: ChunkOrder,
        counts: dict[str, Any],
        seconds: dict[str, float],
        *,
        already_done: bool = False,
    ) -> ChunkResult:
        chunk, memory = order.chunk, memory_in_use()
        return ChunkResult(chunk.shard_id, chunk.number, counts, seconds, memory, already_done)


@dataclass(slots=True)
class PendingRows:
    """The rows of one image, complete once the files that they name are published."""

    rows: Future[list[Row]]
    files: list[tuple[Sequence[int], Future[Row]]] = field(default_factory=list)
    """Indices of the rows that name a file, and what it adds to them."""

    @property
    def done(self) -> bool:
        futures: list[Future[Any]] = [self.rows, *(file for _, file in self.files)]
        return all(future.done() and future.exception() is None for future in futures)

    def result(self) -> list[Row]:
        rows = self.rows.result()
        for named, file in self.files:
            for index in named:
                rows[index] |= file.result()
        return rows


@dataclass(slots=True)
class RunningChunk:
    """A chunk at work: how far it is, for those who ask from outside its thread."""

    order: ChunkOrder
    steps: int = 0
    kept: dict[str, list[Row]] = field(default_factory=dict)
    pending: dict[str, PendingRows] = field(default_factory=dict)

    def step(self) -> None:
        self.steps += 1

    def forget(self) -> None:
        """Lets go of the rows, which are committed."""
        self.kept, self.pending = {}, {}

    def finished(self) -> dict[str, list[Row]]:
        """Rows of the images that are labelled and whose files are published, by key."""
        done = {key: rows.result() for key, rows in dict(self.pending).items() if rows.done}
        return self.kept | done


def _timed_rows(record: ImageRecord, faces: Sequence[Face], watch: Stopwatch) -> list[Row]:
    with watch.timed("encode"):
        return image_rows(record, faces)


def give_memory_back() -> None:
    """Returns freed memory to the system, where the C library can: glibc keeps what lies below the
    last block in use, some hundred MB after a chunk with meshes and textures."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def memory_in_use() -> int:
    """Resident bytes of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _crashed_row(order: ChunkOrder, member: Member) -> Row:
    why = "the process that labelled this image died or hung, each time it was tried"
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
