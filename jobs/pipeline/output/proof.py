"""Proof that an output is complete and consistent.

Every image that was listed has its rows, once; every object is what its row says; there is nothing
else.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import pyarrow as pa

from jobs.pipeline.output.ledger import ShardLedger
from jobs.pipeline.output.reading import in_parallel
from jobs.pipeline.record.chunks import Chunk
from jobs.pipeline.record.layout import ANNOTATIONS, OBJECT_FOLDERS
from jobs.pipeline.record.parts import UnreadableError, read_part
from jobs.pipeline.record.rows import count
from jobs.pipeline.record.schema import OBJECT_COLUMNS, STATUSES, failed_images, read_metadata
from jobs.pipeline.storage.store import Store, StoreError

_ROW_COLUMNS = ["image_id", "shard", "key", "status", "n_faces", "face_index"]


@dataclass
class Proof:
    """What was found.

    Attributes:
        images_listed: in the indexes.
        images: with rows.
        faces: with rows.
        statuses: images with rows, by status.
        parts: part files that chunks have.
        objects: meshes, textures and overlays that rows name.
        missing: part files that are not written yet.
        unreadable: part files whose rows cannot be read; what these may name is no orphan.
        shard_errors: shards that could not be listed in full.
        orphans: files that no row and no chunk accounts for.
        problems: contradictions between rows, indexes and files.
    """

    images_listed: int = 0
    images: int = 0
    faces: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    parts: int = 0
    objects: int = 0
    missing: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    shard_errors: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> int:
        """Images with labels."""
        return self.statuses["ok"]

    @property
    def no_face(self) -> int:
        """Images without a face."""
        return self.statuses["no_face"]

    @property
    def failed(self) -> int:
        """Images whose status is a failure."""
        return failed_images(self.statuses)

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON values, the sums included."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        sums = {"ok": self.ok, "no_face": self.no_face, "failed": self.failed}
        return {**values, "statuses": dict(self.statuses), **sums, "proved": self.proved}

    @property
    def proved(self) -> bool:
        """Whether images in = ok + no_face + failed, and nothing contradicts it."""
        balanced = self.images_listed == self.ok + self.no_face + self.failed
        return balanced and not (self.problems or self.missing or self.unreadable)


@dataclass(frozen=True, slots=True)
class _Reference:
    rel: str
    size: int
    sha256: str


class Prover:
    """Adds shard after shard to a :class:`Proof`; memory is bounded by the largest shard.

    Args:
        store: the output.
        digests: read every object and compare its digest; False: compare sizes only.

    Attributes:
        proof: what has been found so far.
    """

    def __init__(self, store: Store, *, digests: bool = True) -> None:
        self._store, self._digests = store, digests
        self.proof = Proof()
        self._folders: set[str] = set()

    def add(self, shard: ShardLedger) -> None:
        """Check one shard: its part files, their rows, and the files that the rows name."""
        proof = self.proof
        proof.images_listed += shard.images
        if shard.error is not None:
            proof.shard_errors.append(f"{shard.id}: {shard.error}")
        proof.missing += [shard.layout.part(chunk) for chunk in shard.missing]
        proof.orphans += shard.strangers
        referenced: set[str] = set()
        all_read = True
        there = [chunk for chunk in shard.chunks if shard.layout.part(chunk) in shard.parts]
        for checked in in_parallel(lambda chunk: self._part(shard, chunk), there):
            self._take(checked)
            referenced |= checked.objects
            all_read = all_read and checked.rows_known
        self._folders |= {shard.layout.annotations(shard.id), *shard.layout.objects(shard.id)}
        if all_read and not shard.missing:
            self._find_orphans(shard, referenced)

    def finish(self) -> Proof:
        """After the last shard: find files in folders that belong to no shard."""
        for top in (ANNOTATIONS, *OBJECT_FOLDERS):
            for entry in self._store.list(top):
                if entry.rel.rpartition("/")[0] not in self._folders:
                    self.proof.orphans.append(entry.rel)
        return self.proof

    def _take(self, checked: _Checked) -> None:
        proof = self.proof
        proof.parts += 1
        proof.unreadable += checked.unreadable
        proof.images += sum(checked.statuses.values())
        proof.faces += checked.faces
        proof.statuses.update(checked.statuses)
        proof.objects += len(checked.objects)
        proof.problems += checked.problems

    def _part(self, shard: ShardLedger, chunk: Chunk) -> _Checked:
        rel = shard.layout.part(chunk)
        try:
            table = read_part(self._store, rel)
            about = read_metadata(table.schema)
        except UnreadableError as error:
            return _Checked(unreadable=[str(error)], rows_known=False)
        except (StoreError, ValueError) as error:
            return _Checked(problems=[f"{rel}: {error}"], rows_known=False)
        try:
            keys = [member.key for member in shard.index.members(chunk.first, chunk.count)]
        except (StoreError, ValueError, OSError) as error:
            return _Checked(problems=[f"{shard.layout.index(shard.id)}: {error}"], rows_known=False)
        rows = table.select(_ROW_COLUMNS).to_pylist()
        problems = [f"{rel}: {problem}" for problem in row_problems(rows, shard.id, keys)]
        if about["counts"] != count(rows):
            problems.append(f"{rel}: its own counts differ from its rows")
        references = list(_references(table))
        problems += [
            f"{rel}: {problem}" for ref in references for problem in self._object_problems(ref)
        ]
        counts = count(rows)
        objects = {reference.rel for reference in references}
        return _Checked(Counter(counts["status"]), counts["faces"], objects, problems)

    def _object_problems(self, reference: _Reference) -> Iterator[str]:
        try:
            if self._digests:
                data = self._store.read(reference.rel)
                size, digest = len(data), hashlib.sha256(data).hexdigest()
            else:
                size, digest = self._store.size_etag(reference.rel)[0], reference.sha256
        except StoreError as error:
            yield f"{reference.rel}: {error.reason}"
            return
        if size != reference.size:
            yield f"{reference.rel}: {size} bytes, its row says {reference.size}"
        elif digest != reference.sha256:
            yield f"{reference.rel}: its digest is not the one in its row"

    def _find_orphans(self, shard: ShardLedger, referenced: set[str]) -> None:
        """Find files of the shard that no row names.

        Call it only when all its rows are committed and were read: until then files may belong to
        rows that are still to come, or that cannot be read.
        """
        for folder in shard.layout.objects(shard.id):
            for entry in self._store.list(folder, recursive=False):
                if entry.rel not in referenced:
                    self.proof.orphans.append(entry.rel)


@dataclass(slots=True)
class _Checked:
    statuses: Counter[str] = field(default_factory=Counter)
    faces: int = 0
    objects: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    rows_known: bool = True


def row_problems(
    rows: Sequence[Mapping[str, Any]], shard_id: str, keys: Sequence[str]
) -> Iterator[str]:
    """How the rows of a part contradict the chunk's list of images, which is ``keys``."""
    by_key: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_key.setdefault(row["key"], []).append(row)
    for key in keys:
        if key not in by_key:
            yield f"image {key} has no row"
    for key in by_key.keys() - set(keys):
        yield f"image {key} is not of this chunk"
    for key, group in by_key.items():
        yield from _image_problems(group, shard_id, key)


def _image_problems(group: Sequence[Mapping[str, Any]], shard_id: str, key: str) -> Iterator[str]:
    statuses = {row["status"] for row in group}
    if len(statuses) != 1 or not statuses <= set(STATUSES):
        yield f"image {key} has status {', '.join(sorted(map(str, statuses)))}"
    if any((row["image_id"], row["shard"]) != (f"{shard_id}/{key}", shard_id) for row in group):
        yield f"image {key} has a wrong image_id or shard"
    faces = [row["face_index"] for row in group]
    if statuses == {"ok"}:
        n_faces = group[0]["n_faces"] or 0
        if None in faces or len(set(faces)) != len(faces) or max(faces) >= n_faces:
            yield f"image {key} has faces {faces} of {n_faces}"
    elif faces != [None]:
        yield f"image {key} has {len(group)} rows for status {statuses.pop()}"


def _references(table: pa.Table) -> Iterator[_Reference]:
    for name in OBJECT_COLUMNS:
        columns = [
            table.column(f"{name}_{what}").to_pylist() for what in ("uri", "bytes", "sha256")
        ]
        for rel, size, sha256 in zip(*columns, strict=True):
            if rel is not None:
                yield _Reference(rel, size, sha256)
