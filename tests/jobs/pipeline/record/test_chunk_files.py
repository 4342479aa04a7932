"""An actor's way to the files of its chunk: what is committed, kept, replaced, and refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from jobs.pipeline.record.chunk_files import ChunkFiles
from jobs.pipeline.record.chunks import Chunk
from jobs.pipeline.record.facts import AssetFacts
from jobs.pipeline.record.index import save_index
from jobs.pipeline.record.layout import Layout
from jobs.pipeline.record.orders import ChunkOrder
from jobs.pipeline.record.parts import encode_part
from jobs.pipeline.record.rows import ImageRecord, Row, to_table
from jobs.pipeline.record.schema import LabelSchema
from jobs.pipeline.shards import Member, Shard, ShardIndex
from jobs.pipeline.storage.store import Store, StoreError

SHARD = Shard("s", "/in/s.tar", "tar", 10, "e1")
CHUNK = Chunk("s", 0, 0, 2, 0, 10)
SCHEMA = LabelSchema(AssetFacts("a", "d"), "fingerprint", {})
LAYOUT = Layout()


def files(store: Store, **order: Any) -> ChunkFiles:
    return ChunkFiles(store, LAYOUT, ChunkOrder(SHARD, CHUNK, **order))


def rows(*statuses: str) -> list[Row]:
    return [ImageRecord("s", f"{i}").row(status, "why") for i, status in enumerate(statuses)]


def part(*statuses: str) -> memoryview:
    return encode_part(to_table(rows(*statuses), SCHEMA, {"chunk": {"shard": "s"}}))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path))


def test_what_another_has_committed_stays(store: Store) -> None:
    assert not files(store).committed
    files(store).publish(part("no_face", "no_face"))
    files(store).publish(part("no_face", "decode_error"))
    assert files(store).committed
    assert files(store).counts()["status"] == {"no_face": 2}


def test_a_chunk_that_is_redone_keeps_its_good_rows_and_is_replaced(store: Store) -> None:
    files(store).publish(part("no_face", "decode_error"))
    again = files(store, redo=True)
    assert not again.committed
    assert list(again.kept_rows()) == ["0"]
    again.publish(part("no_face", "no_face"))
    assert again.counts()["status"] == {"no_face": 2}


def test_nothing_is_kept_of_a_part_file_that_cannot_be_read(store: Store) -> None:
    store.publish(LAYOUT.part(CHUNK), b"PAR1 not really")
    assert files(store, redo=True).kept_rows() == {}


def test_rows_of_an_unfinished_chunk_are_taken_over_until_it_is_committed(store: Store) -> None:
    files(store).keep(rows("no_face"), SCHEMA)
    assert not files(store).committed
    taken_over = files(store, partial=True)
    assert list(taken_over.kept_rows()) == ["0"]
    taken_over.publish(part("no_face", "no_face"))
    assert list(store.list(LAYOUT.partials("s"))) == []


def test_images_are_those_of_the_listing_unless_it_changed(store: Store) -> None:
    members = [Member(f"{i}", f"{i}.png", 5 * i, 5, 5) for i in range(2)]
    index = ShardIndex("s", members)
    with pytest.raises(StoreError, match="listed this shard anew"):
        files(store).members()
    save_index(store, LAYOUT.index("s"), SHARD, index, 256, 1000)
    assert [member.key for member in files(store).members()] == ["0", "1"]
    save_index(store, LAYOUT.index("s"), dataclasses.replace(SHARD, etag="e2"), index, 256, 1000)
    with pytest.raises(StoreError, match="listed this shard anew"):
        files(store).members()
