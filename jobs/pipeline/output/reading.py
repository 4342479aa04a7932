"""Reading an output: what is committed, what it says about itself, and whether more is to come.

Readers need nothing but the part files: their existence is the commit. The manifest and the kept
indexes only say how many there will be.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import pyarrow as pa

from jobs.pipeline.record.facts import AssetFacts
from jobs.pipeline.record.index import KEY as INDEX_KEY
from jobs.pipeline.record.layout import (
    ANNOTATIONS,
    COMPACTION,
    INDEX_FOLDER,
    MANIFEST,
    SUPERSEDED,
    Layout,
)
from jobs.pipeline.record.parts import read_about, read_schema
from jobs.pipeline.record.run import read_manifest
from jobs.pipeline.record.schema import LabelSchema, read_metadata
from jobs.pipeline.storage.store import Entry, Store
from tddfa3.errors import UserError

_In = TypeVar("_In")
_Out = TypeVar("_Out")
_SUFFIX = ".parquet"
_PARALLEL = 16
MOST_SHARDS_COUNTED = 2000
"""Most shards whose chunks are counted, at one small request per shard: for more of them, that
would take longer than the query that follows."""


@dataclass(frozen=True, slots=True)
class Completeness:
    """Committed part files against those that there will be.

    Attributes:
        shards_listed: shards whose number of chunks is known.
        shards: of the input.
        parts: part files that are committed.
        parts_expected: None where counting them would take too long.
    """

    shards_listed: int
    shards: int
    parts: int
    parts_expected: int | None

    @property
    def finished(self) -> bool:
        """Whether nothing more is to come, as far as it is known."""
        if self.shards_listed < self.shards:
            return False
        return self.parts_expected is None or self.parts >= self.parts_expected

    def __str__(self) -> str:
        if self.shards_listed < self.shards:
            return f"{self.parts} part files; {self.shards_listed} of {self.shards} shards listed"
        return f"{self.parts} of {self.parts_expected} part files"


@dataclass
class Counts:
    """Sums of what part files say about themselves.

    Attributes:
        images: in all.
        faces: labelled.
        statuses: images by status.
        shard_errors: shards that could not be read in full.
    """

    images: int = 0
    faces: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    shard_errors: int = 0

    def add(self, about: Mapping[str, Any]) -> None:
        """Add what one part file says about itself (``about``)."""
        counts = about["counts"]
        self.images += counts["images"]
        self.faces += counts["faces"]
        self.statuses.update(counts["status"])
        self.shard_errors += counts["shard_errors"]


class LabelledRun:
    """An output of the label job, finished or still growing, or a compaction of one.

    Attributes:
        store: the output.
        manifest: None for a folder that holds part files alone.
        layout: names of the files in it.

    Raises:
        UserError: there is no output of the label job at ``url``.
        StoreError: it could not be read.
    """

    def __init__(self, url: str, *, s3_endpoint: str | None = None) -> None:
        self.store = Store.open(url, s3_endpoint=s3_endpoint)
        self.manifest: dict[str, Any] | None = read_manifest(self.store)
        self.layout = Layout.of(self.manifest)
        if self.manifest is None and not self.parts:
            raise UserError(
                f"{url}: not an output of jobs.label ({MANIFEST} and {ANNOTATIONS}/ are missing)"
            )

    def __repr__(self) -> str:
        return f"LabelledRun({self.store.url!r})"

    @cached_property
    def parts(self) -> tuple[Entry, ...]:
        """All part files that exist when this is first read; later ones are not seen."""
        return tuple(e for e in self.store.list(ANNOTATIONS) if e.rel.endswith(_SUFFIX))

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema of all parts, with the first one's metadata.

        While nothing is committed, it is made from the manifest.
        """
        if not self.parts:
            return LabelSchema(self.facts, self._kept("fingerprint", ""), self.versions).arrow()
        first = self.parts[0]
        return read_schema(self.store, first.rel, first.size)

    @cached_property
    def about(self) -> dict[str, Any]:
        """What the first part file says about itself: units, frames, part names, assets."""
        return read_metadata(self.schema)

    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of the face parts: label i + 1 of ``seg_visible``, bit i of ``seg``."""
        return tuple(self.about["parts"])

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the packages that the labels were computed with, from the manifest."""
        return self._kept("versions", {})

    @cached_property
    def facts(self) -> AssetFacts:
        """The assets that the run was labelled with, from the manifest."""
        assets = self._kept("assets", {})
        return AssetFacts(
            name=assets.get("name", ""),
            digest=assets.get("digest", ""),
            source=assets.get("source", ""),
            licence=assets.get("licence", ""),
            files=assets.get("files", {}),
            part_names=tuple(assets.get("parts", ())),
            **{k: assets[k] for k in ("coefficients", "landmarks") if k in assets},
        )

    @cached_property
    def superseded(self) -> tuple[str, ...]:
        """Shards whose content was replaced during the run; readers skip their rows."""
        marks = self.store.list(SUPERSEDED)
        return tuple(sorted(json.loads(self.store.read(mark.rel))["shard"] for mark in marks))

    def about_part(self, part: Entry) -> dict[str, Any]:
        """What one part file says about itself: a small read.

        Raises:
            UnreadableError: it is damaged, or of a later version.
            StoreError: it is gone, or the storage failed.
        """
        return read_about(self.store, part.rel, part.size)

    def footers(self) -> Iterator[dict[str, Any]]:
        """:meth:`about_part` of every part, in the order of ``parts``."""
        return in_parallel(self.about_part, self.parts)

    def about_indexes(self, indexes: Iterable[Entry]) -> Iterator[dict[str, Any]]:
        """What kept indexes say about themselves: a small read each, no member table."""

        def about(index: Entry) -> dict[str, Any]:
            kept: dict[str, Any] = json.loads(
                read_schema(self.store, index.rel, index.size).metadata[INDEX_KEY]
            )
            return kept

        return in_parallel(about, indexes)

    def completeness(self) -> Completeness | None:
        """How much is committed; None if it is unknown how much there will be."""
        compaction = self.store.read_or_none(COMPACTION)
        if compaction is not None:
            expected = len(json.loads(compaction)["files"])
            return Completeness(1, 1, len(self.parts), expected)
        if self.manifest is None:
            return None
        shards = self.manifest["input"]["shards"]
        indexes = list(self.store.list(INDEX_FOLDER))
        limit = self._kept("config", {}).get("limit", 0)
        if limit:
            images = sum(about["counts"]["images"] for about in self.footers())
            return Completeness(1, 1, len(self.parts), len(self.parts) + (images < limit))
        if len(indexes) > MOST_SHARDS_COUNTED or len(indexes) < shards:
            return Completeness(len(indexes), shards, len(self.parts), None)
        return Completeness(len(indexes), shards, len(self.parts), self._expected(indexes))

    def _expected(self, indexes: Sequence[Entry]) -> int:
        """How many part files there will be: one per chunk and one per broken shard."""
        return sum(
            len(about["chunks"]) + (about["error"] is not None)
            for about in self.about_indexes(indexes)
        )

    def _kept(self, name: str, default: Any) -> Any:
        return (self.manifest or {}).get(name, default)


def in_parallel(call: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
    """``call`` of every item, in order, in threads that wait for storage."""
    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="reading") as pool:
        yield from pool.map(call, items)


def say_if_unfinished(run: LabelledRun) -> None:
    """Print one line on stderr when more is still to come."""
    so_far = run.completeness()
    if so_far is not None and not so_far.finished:
        note = f"the run is not finished ({so_far}); this is what is committed"
        print(f"note: {note}", file=sys.stderr)
