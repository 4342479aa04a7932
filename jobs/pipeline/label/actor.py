"""LabelActor: one chunk of a shard in, one committed part file out.

The stages of a chunk: read its span -> decode ahead -> label in batches -> make and publish objects
-> publish the part file, which is the commit. An actor is given two chunks at a time, each in a
thread of its own: while one has the networks, the other reads and decodes, or encodes and
publishes.
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
BATCHES_AHEAD = 2
"""Batches of decoded images that may wait for the networks, per chunk."""


@dataclass(frozen=True)
class Assignment:
    """What every actor of a run is given.

    Attributes:
        config: the run's, with what actors need differently.
        factory: builds the labeler.
        schema: of the rows.
        store: the output.
        layout: names of the files in it.
        read_options: how the shards are read.
        threads: for the networks, for decoding and for encoding, each.
    """

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
        """The assignment for a run; ``config`` replaces the run's where actors need another."""
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
    """What an actor tells the driver of a chunk: counts, never images or rows.

    Attributes:
        shard_id: names the chunk, together with ``number``.
        number: counts from 0 within the shard.
        counts: those of the part file; see :func:`jobs.pipeline.record.rows.count`.
        seconds: per stage, summed over threads; empty if ``already_done``.
        memory: resident bytes of the actor afterwards.
        already_done: whether another actor or driver had committed the chunk before.
    """

    shard_id: str
    number: int
    counts: dict[str, Any]
    seconds: dict[str, float]
    memory: int
    already_done: bool


@dataclass(frozen=True, slots=True)
class ActorInfo:
    """Where an actor runs.

    Attributes:
        pid: its process.
        host: the machine's name.
        node_id: Ray's id of the machine, or "" without Ray.
    """

    pid: int
    host: str
    node_id: str


class LabelActor:
    """Labels chunks. A plain class, which the actor pool wraps with ``ray.remote``."""

    def setup(self, assignment: Assignment) -> ActorInfo:
        """Build the networks; work is sent only after this has returned.

        It is no constructor, because Ray reports what a constructor raises as the death of the
        actor, with a page of text.

        Raises:
            UserError: the labeler cannot be built here.
        """
        self._task = assignment
        threads = assignment.threads
        # Ray sets OMP_NUM_THREADS to 1 for actors of one CPU; the engine sets its own threads.
        os.environ["OMP_NUM_THREADS"] = str(threads)
        # Pillow warns about damaged files; their rows say so anyway.
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
        """Label and commit a chunk, unless somebody has committed it already.

        Raises:
            StoreError: the storage failed; nothing is committed.
            ShardReadError: the shard changed since it was listed; nothing is committed.
        """
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
        """Label one image and keep nothing: the question is whether the process survives it.

        Returns:
            ``position``, the image's position in the chunk.
        """
        with self._register(order) as running:
            members = self._files(order).members()
            for _, _ in self._outcomes(order, members, [position], Stopwatch(), running):
                pass
        return position

    def progress(self) -> dict[tuple[str, int], int]:
        """Steps that each running chunk has made. Only whether they grow means anything."""
        return {chunk: running.steps for chunk, running in dict(self._running).items()}

    def save_unfinished(self) -> int:
        """Save the finished rows of running chunks, because the run is about to be stopped.

        Other threads go on labelling meanwhile.

        Returns:
            The number of images whose rows were saved.
        """
        saved = 0
        for running in list(self._running.values()):
            order, rows_of = running.order, running.finished()
            # A chunk that is redone has a complete part file already.
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
        """Rows of the images ``todo``, by key; the files that they name are published by then."""
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
        """Start reading and decoding at once; label when the other chunk releases the networks."""
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
                    running.step()  # waiting for the other chunk is no stall of this one
            try:
                for labelled in label_in_batches(images, self._labeler, size, watch):
                    running.step()
                    yield labelled
            finally:
                self._networks.release()

    def _pending_rows(
        self, loaded: LoadedImage, outcome: list[Face] | Exception | None, watch: Stopwatch
    ) -> PendingRows:
        """Make rows in threads, so that the networks do not wait for PNG and Python."""
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
    """The rows of one image, complete once the files that they name are published.

    Attributes:
        rows: the rows, without the columns of their files.
        files: per file the indices of the rows that name it, and what it adds to them.
    """

    rows: Future[list[Row]]
    files: list[tuple[Sequence[int], Future[Row]]] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether everything has ended without an error."""
        futures: list[Future[Any]] = [self.rows, *(file for _, file in self.files)]
        return all(future.done() and future.exception() is None for future in futures)

    def result(self) -> list[Row]:
        """Wait for the rows and their files; raises what making any of them raised."""
        rows = self.rows.result()
        for named, file in self.files:
            for index in named:
                rows[index] |= file.result()
        return rows


@dataclass(slots=True)
class RunningChunk:
    """A chunk at work: its progress, for callers from other threads.

    Attributes:
        order: the chunk.
        steps: grows whenever something has been done.
        kept: rows that need not be made again, by key.
        pending: rows in the making, by key.
    """

    order: ChunkOrder
    steps: int = 0
    kept: dict[str, list[Row]] = field(default_factory=dict)
    pending: dict[str, PendingRows] = field(default_factory=dict)

    def step(self) -> None:
        """Note that the chunk got on."""
        self.steps += 1

    def forget(self) -> None:
        """Drop the rows, which are committed now."""
        self.kept, self.pending = {}, {}

    def finished(self) -> dict[str, list[Row]]:
        """Rows of the images that are labelled and whose files are published, by key."""
        done = {key: rows.result() for key, rows in dict(self.pending).items() if rows.done}
        return self.kept | done


def _timed_rows(record: ImageRecord, faces: Sequence[Face], watch: Stopwatch) -> list[Row]:
    with watch.timed("encode"):
        return image_rows(record, faces)


def give_memory_back() -> None:
    """Return freed memory to the system, where the C library can.

    glibc keeps everything below the last block in use: some hundred MB after a chunk with meshes
    and textures.
    """
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
