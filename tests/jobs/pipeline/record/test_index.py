"""Kept indexes: found again, compared, read in part, and made anew when they are damaged."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobs.pipeline.record.chunks import cut
from jobs.pipeline.record.index import load_index, save_index
from jobs.pipeline.shards import Member, Shard, ShardIndex, index_shard, read_members
from jobs.pipeline.storage.store import Store, StoreError
from tests.support.counting import sizes_of_preads
from tests.support.shard_tools import only_shard, picture, write_files

NAME = "_run/index/a.parquet"
LIMITS = (100, 10**6)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "out"))


def many(count: int) -> tuple[Shard, ShardIndex]:
    members = [
        Member(f"{number:06d}", f"{number:06d}.jpg", number * 1024, 700, 700, crc=2**32 - 1)
        for number in range(count)
    ]
    shard = Shard("sub/a.tar", "/in/sub/a.tar", "tar", count * 1024, "etag")
    return shard, ShardIndex(shard.id, members, None, count * 1024)


def test_an_index_comes_back_as_it_was(store: Store) -> None:
    odd = [
        Member("caf\\udce9", "caf\udce9.jpg", 0, 5, 5, 8, 123, ""),
        Member("x#2", "\ud800", 2**40, 0, 0, error="sparse files are not supported"),
    ]
    shard = Shard("a b/ü.zip", "/in/\udcff.zip", "zip", 10, "e", "*.j[p]g")
    index = ShardIndex(shard.id, odd, "cut at offset 7", 7)
    save_index(store, NAME, shard, index, *LIMITS)
    kept = load_index(store, NAME)
    assert kept is not None
    assert kept.index == index
    assert kept.shard == shard
    assert (kept.images, kept.bytes, kept.error, kept.end_offset) == (2, 5, "cut at offset 7", 7)
    assert kept.difference(shard) is None


def test_there_is_none_before_it_is_kept(store: Store) -> None:
    assert load_index(store, NAME) is None
    assert [load_index(store, rel) for rel in ("a.parquet", "b.parquet")] == [None, None]


def test_chunks_are_the_same_from_the_footer_and_cut_anew(store: Store) -> None:
    shard, index = many(1234)
    save_index(store, NAME, shard, index, *LIMITS)
    kept = load_index(store, NAME)
    assert kept is not None
    assert kept.chunks(*LIMITS) == cut(index, *LIMITS)
    assert kept.chunks(7, 2000) == cut(index, 7, 2000)


def test_members_of_a_chunk_are_read_without_the_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard, index = many(20_000)
    save_index(store, NAME, shard, index, *LIMITS)
    kept = load_index(store, NAME)
    assert kept is not None
    for first, count in ((0, 1), (4095, 2), (4096, 100), (8000, 9000), (19_999, 1)):
        assert kept.members(first, count) == index.members[first : first + count]
    with pytest.raises(StoreError, match="20000 members"):
        kept.members(19_999, 2)
    with pytest.raises(StoreError, match="20000 members"):
        kept.members(30_000, 1)


def test_changes_are_told(store: Store) -> None:
    shard, index = many(3)
    save_index(store, NAME, shard, index, *LIMITS)
    kept = load_index(store, NAME)
    assert kept is not None
    other = Shard(shard.id, shard.uri, "tar", shard.size + 5, "other")
    assert kept.difference(other) == "3072 -> 3077 bytes, etag etag -> other"


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"x" * 5000])
def test_a_damaged_index_counts_as_none(store: Store, damage: bytes) -> None:
    shard, index = many(3)
    save_index(store, NAME, shard, index, *LIMITS)
    store.publish(NAME, damage)
    assert load_index(store, NAME) is None


def test_an_index_of_a_real_folder_leads_to_its_bytes(tmp_path: Path, store: Store) -> None:
    write_files(tmp_path / "in", *[f"{number}.jpg" for number in range(25)])
    shard = only_shard(tmp_path / "in")
    save_index(store, NAME, shard, index_shard(shard), 10, 10**6)
    kept = load_index(store, NAME)
    assert kept is not None
    found: dict[str, object] = {}
    for chunk in kept.chunks(10, 10**6):
        assert chunk.count <= 10
        found |= {
            member.key: content
            for member, content in read_members(shard, kept.members(chunk.first, chunk.count))
        }
    assert found == {f"{number}.jpg": picture(f"{number}.jpg") for number in range(25)}


def test_a_plan_of_many_shards_reads_one_footer_each(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard, index = many(10_000)
    shards = [Shard(f"{n:03d}.tar", shard.uri, "tar", shard.size, "etag") for n in range(20)]
    for each in shards:
        save_index(
            store, f"{each.id}.parquet", each, ShardIndex(each.id, index.members, None, 0), *LIMITS
        )
    reads = sizes_of_preads(monkeypatch)
    kept = [load_index(store, f"{each.id}.parquet") for each in shards]
    assert sum(len(one.chunks(*LIMITS)) for one in kept if one) == 20 * 100
    assert [one.shard.id for one in kept if one] == [each.id for each in shards]
    assert len(reads) <= 3 * len(shards)


def test_shards_and_members_can_be_sent_to_other_processes() -> None:
    shard, index = many(2)
    assert pickle.loads(pickle.dumps((shard, index.members))) == (shard, index.members)


def test_threads_may_read_one_index_at_once(store: Store) -> None:
    shard, index = many(20_000)
    save_index(store, NAME, shard, index, *LIMITS)
    kept = load_index(store, NAME)
    assert kept is not None
    firsts = range(0, 19_900, 97)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda first: kept.members(first, 100), firsts))
    assert found == [index.members[first : first + 100] for first in firsts]
