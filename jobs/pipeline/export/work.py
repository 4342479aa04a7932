"""Exporting one batch of faces: rows -> faces again, photographs -> files -> a record of them.

File names follow from the face, and files are published whole; the record of a batch comes last.
A batch with a record, whose files have the sizes stated there, is not done again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.pipeline.export.coco import fragment
from jobs.pipeline.export.files import File, Item, face_files
from jobs.pipeline.export.photos import PhotoReader, SourcePhoto
from jobs.pipeline.export.plan import Batch, ExportConfig, Needs, Pick
from jobs.pipeline.export.upstream import upstream_files
from jobs.pipeline.export.webdataset import ShardWriter, sample, shard_name
from jobs.pipeline.record.layout import Layout
from jobs.pipeline.record.parts import UnreadableError, read_part
from jobs.pipeline.record.schema import read_metadata
from jobs.pipeline.shards import ReadOptions
from jobs.pipeline.storage.spool import spooled
from jobs.pipeline.storage.store import Store, StoreError
from tddfa3.assets.bundle import AssetBundle
from tddfa3.from_row import FaceNumbers, FaceRebuilder

RECORDS = "_export"
"""Folder of the records of batches, in DEST."""
_FACES_AT_ONCE = 16
_BYTES_AT_ONCE = 256 * 2**20
_PARALLEL_WRITES = 8


@dataclass(frozen=True)
class ExportJob:
    """What every worker is given; picklable.

    Attributes:
        config: the options.
        source: the output of the label job.
        layout: names of the files in ``source``.
        dest: where the files go.
        sets: landmark sets to write.
        needs: what the files are made of.
        part_names: names of the face parts.
        photo_options: how the photographs are read.
        assets: folder of the bundle; used where ``needs`` has outputs.
    """

    config: ExportConfig
    source: Store
    layout: Layout
    dest: Store
    sets: tuple[str, ...]
    needs: Needs
    part_names: tuple[str, ...]
    photo_options: ReadOptions
    assets: str


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What became of a batch.

    Attributes:
        number: the batch.
        faces: that were exported.
        files: that were written, or were there.
        bytes: of these files.
        skipped: whether the files were there already.
        failures: a face each, with the reason why there are no files of it.
    """

    number: int
    faces: int
    files: int
    bytes: int
    skipped: bool
    failures: tuple[str, ...] = ()


@dataclass
class _Written:
    """Files of a batch so far: name to size and digest."""

    files: dict[str, tuple[int, str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(size for size, _ in self.files.values())


class Exporter:
    """Exports batches; the face model is loaded when the first batch needs it."""

    def __init__(self, job: ExportJob, threads: int) -> None:
        self._job = job
        self._threads = threads
        self._photos = PhotoReader(job.source, job.layout, job.photo_options)
        self._writers = ThreadPoolExecutor(_PARALLEL_WRITES, thread_name_prefix="export")
        self._rebuilder: FaceRebuilder | None = None

    def export(self, batch: Batch) -> BatchReport:
        """Write the files of a batch, unless they are there.

        Raises:
            StoreError: the storage failed. What is missing or damaged is a failure in the report.
        """
        record = f"{RECORDS}/{batch.id}.json"
        done = self._done(record)
        if done is not None:
            return BatchReport(batch.number, len(batch.picks), *done, skipped=True)
        written = _Written()
        layouts: dict[str, Callable[[Batch, _Written], None]] = {
            "files": self._write_files,
            "webdataset": self._write_shard,
            "upstream": self._write_upstream,
        }
        layouts[self._job.config.layout](batch, written)
        if not written.failures:
            content = {"files": written.files}
            self._job.dest.publish(record, json.dumps(content, sort_keys=True).encode())
        faces = len(batch.picks) - len(written.failures)
        return BatchReport(
            batch.number, faces, len(written.files), written.bytes, False, tuple(written.failures)
        )

    def _done(self, record: str) -> tuple[int, int] | None:
        """(files, bytes) of a batch that is complete; None if it is not."""
        data = self._job.dest.read_or_none(record)
        if data is None:
            return None
        files: dict[str, tuple[int, str]] = json.loads(data)["files"]
        sizes = self._writers.map(self._size, files)
        if any(size != expected for size, (expected, _) in zip(sizes, files.values(), strict=True)):
            return None
        return len(files), sum(size for size, _ in files.values())

    def _size(self, rel: str) -> int | None:
        try:
            return self._job.dest.size_etag(rel)[0]
        except StoreError as error:
            if error.kind != "not_found":
                raise
            return None

    def _write_files(self, batch: Batch, written: _Written) -> None:
        job = self._job
        coco = "coco" in job.config.mask_formats
        kept: list[bytes] = []
        for items in self._groups(batch, written):
            files = [f for item in items for f in face_files(job.config, job.sets, item)]
            self._publish(files, written)
            if coco:
                kept.append(fragment(items, job.part_names))
        if coco:
            self._publish([(coco_fragment(batch), b"".join(kept))], written)

    def _write_upstream(self, batch: Batch, written: _Written) -> None:
        for items in self._groups(batch, written):
            for item in items:
                # One at a time: an .npy holds eight float64 masks of the whole photograph.
                self._publish(upstream_files(item, self._job.part_names), written)

    def _write_shard(self, batch: Batch, written: _Written) -> None:
        rel = shard_name(batch.number)
        with spooled(self._job.dest, rel) as file:
            shard = ShardWriter(file)
            for items in self._groups(batch, written):
                for item in items:
                    shard.write(item.name, sample(item, self._job.sets, self._job.config.images))
            shard.close()
            file.seek(0)
            digest = hashlib.sha256()
            size = 0
            while block := file.read(1 << 20):
                digest.update(block)
                size += len(block)
            written.files[rel] = size, digest.hexdigest()

    def _publish(self, files: Iterable[File], written: _Written) -> None:
        def publish(file: File) -> tuple[str, tuple[int, str]]:
            rel, data = file
            self._job.dest.publish(rel, data)
            return rel, (len(data), hashlib.sha256(data).hexdigest())

        written.files.update(self._writers.map(publish, files))

    def _groups(self, batch: Batch, written: _Written) -> Iterator[list[Item]]:
        """The batch's faces, a few at a time, with what the options need made again."""
        group: list[Item] = []
        pixels = 0
        for item in self._items(batch, written):
            group.append(item)
            pixels += 0 if item.photo is None else item.photo.image.nbytes
            if len(group) == _FACES_AT_ONCE or pixels >= _BYTES_AT_ONCE:
                yield self._rebuilt(group, written)
                group, pixels = [], 0
        if group:
            yield self._rebuilt(group, written)

    def _items(self, batch: Batch, written: _Written) -> Iterator[Item]:
        by_part: dict[str, list[Pick]] = {}
        for pick in batch.picks:
            by_part.setdefault(pick.part, []).append(pick)
        for part, picks in by_part.items():
            try:
                table = read_part(self._job.source, part)
            except (StoreError, UnreadableError) as error:
                if isinstance(error, StoreError) and error.kind != "not_found":
                    raise
                written.failures += [f"{_called(pick)}: {error}" for pick in picks]
                continue
            rows = _picked_rows(table, picks)
            if self._job.needs.photos:
                yield from self._with_photos(table.schema, picks, rows, written)
            else:
                yield from (Item(rows[p.shard, p.key, p.face_index], p.name) for p in picks)

    def _with_photos(
        self,
        schema: pa.Schema,
        picks: Sequence[Pick],
        rows: dict[tuple[str, str, int], dict[str, Any]],
        written: _Written,
    ) -> Iterator[Item]:
        chunk = read_metadata(schema).get("chunk", {})
        for shard in dict.fromkeys(pick.shard for pick in picks):
            of_key: dict[str, list[Pick]] = {}
            for pick in picks:
                if pick.shard == shard:
                    of_key.setdefault(pick.key, []).append(pick)
            digests = {
                key: rows[shard, key, group[0].face_index]["image_sha256"]
                for key, group in of_key.items()
            }
            for key, photo in self._photos.read(shard, digests, chunk):
                for pick in of_key[key]:
                    if isinstance(photo, SourcePhoto):
                        row = rows[shard, key, pick.face_index]
                        yield Item(row, pick.name, photo=photo)
                    else:
                        written.failures.append(f"{_called(pick)}: {photo}")

    def _rebuilt(self, items: list[Item], written: _Written) -> list[Item]:
        """The items with their faces; a row whose numbers make no face becomes a failure."""
        outputs = self._job.needs.outputs
        if outputs is None:
            return items
        if self._rebuilder is None:
            bundle = AssetBundle.load(self._job.assets)
            device = self._job.config.device
            self._rebuilder = FaceRebuilder(bundle, outputs, device=device, threads=self._threads)
        try:
            numbers = [FaceNumbers.from_row(item.row) for item in items]
            photos = [item.photo.image for item in items if item.photo is not None]
            faces = self._rebuilder(numbers, photos or None)
        except ValueError as error:
            if len(items) > 1:
                return [made for item in items for made in self._rebuilt([item], written)]
            row = items[0].row
            written.failures.append(f"{row['image_id']} face {row['face_index']}: {error}")
            return []
        pairs = zip(items, faces, strict=True)
        return [replace(item, face=face) for item, face in pairs]


def coco_fragment(batch: Batch) -> str:
    """The file in DEST with a batch's part of the COCO annotations."""
    return f"{RECORDS}/coco/{batch.id}.jsonl"


def _picked_rows(
    table: pa.Table, picks: Sequence[Pick]
) -> dict[tuple[str, str, int], dict[str, Any]]:
    keys = pa.array({pick.key for pick in picks}, pa.string())
    wanted = {(pick.shard, pick.key, pick.face_index) for pick in picks}
    found = table.filter(pc.is_in(table["key"], keys)).to_pylist()
    rows = {(row["shard"], row["key"], row["face_index"]): row for row in found}
    return {name: row for name, row in rows.items() if name in wanted}


def _called(pick: Pick) -> str:
    return f"{pick.shard}/{pick.key} face {pick.face_index}"
