"""Reading by offset: any order of requests gives the bytes that are there, in few requests."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.pipeline.shards import Member
from jobs.pipeline.shards.reader import (
    SPAN_BYTES,
    SPAN_GAP,
    RangeFile,
    RangeReader,
    spans,
)
from jobs.pipeline.shards.streams import ForwardReader
from jobs.pipeline.storage.store import Store
from tests.support.counting import sizes_of_reads

DATA = random.Random(0).randbytes(400_000)


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Local reading sips; any other store is read a block ahead, here of 50,000 bytes."""
    monkeypatch.setenv("TDDFA3_ALLOW_MEMORY", "1")
    monkeypatch.setattr("jobs.pipeline.shards.reader.REMOTE_BLOCK", 50_000)
    monkeypatch.setattr("jobs.pipeline.shards.reader.REMOTE_SIP", 1000)
    url = str(tmp_path) if request.param == "local" else f"memory://{request.node.name}"
    store = Store.open(url)
    store.publish("x", DATA)
    return store


def test_requests_in_any_order(store: Store) -> None:
    rng = random.Random(1)
    reader = RangeReader(store, "x", len(DATA))
    offset = 0
    for _ in range(2000):
        step = rng.choice([0, 1, 500, 5000, 60_000, -100, -70_000, 300_000])
        offset = max(0, min(len(DATA) + 10, offset + step)) if rng.random() < 0.9 else 0
        count = rng.choice([0, 1, 512, 30_000, 120_000])
        assert reader.pread(offset, count) == DATA[offset : offset + count]


def test_going_forwards_reads_everything_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    if store.kind == "local":
        pytest.skip("local files are not read ahead")
    requests = sizes_of_reads(monkeypatch)
    reader = RangeReader(store, "x", len(DATA))
    for offset in range(0, len(DATA), 4096):
        reader.pread(offset, 512)
    assert sum(requests) == len(DATA)
    assert len(requests) == 8


def test_jumps_over_large_members_read_sips(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = sizes_of_reads(monkeypatch)
    reader = RangeReader(store, "x", len(DATA))
    for offset in range(100_000, len(DATA), 100_000):
        reader.pread(offset, 512)
    assert len(requests) == 3
    assert sum(requests) <= 3 * 33_000


def test_a_range_file_is_a_file(store: Store) -> None:
    file = RangeFile(RangeReader(store, "x", len(DATA)))
    plain = io.BytesIO(DATA)
    for offset, whence in ((10, 0), (-50, 2), (5, 1), (0, 0), (10**6, 0), (-10, 2)):
        assert file.seek(offset, whence) == plain.seek(offset, whence)
        assert file.read(7) == plain.read(7)
        assert file.tell() == plain.tell()
    assert file.seek(0) == 0
    assert file.read() == DATA
    assert io.BufferedReader(file).read() == b""


@given(
    st.lists(st.binary(min_size=1, max_size=50), max_size=30),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 90)), max_size=30),
)
@settings(deadline=None)
def test_a_stream_read_forwards_gives_what_a_file_would(
    blocks: list[bytes], requests: list[tuple[int, int]]
) -> None:
    data = b"".join(blocks)
    stream = ForwardReader(iter(blocks))
    offset = 0
    for step, count in requests:
        offset += step
        assert stream.pread(offset, count) == data[offset : offset + count]
        assert stream.pread(offset, count) == data[offset : offset + count], "the same again"
        assert stream.position <= offset


def test_a_stream_does_not_go_back() -> None:
    stream = ForwardReader(iter([b"abc", b"def"]))
    assert stream.pread(4, 1) == b"e"
    with pytest.raises(ValueError, match="go back"):
        stream.pread(0, 1)


def test_neighbours_share_a_request_and_strangers_do_not() -> None:
    def member(offset: int, size: int) -> Member:
        return Member(str(offset), "", offset, size, size)

    near = [member(0, 1000), member(2000, 1000), member(3000 + SPAN_GAP, 10)]
    far = [member(4000 + 2 * SPAN_GAP, 10)]
    assert list(spans([*far, *near])) == [near, far]
    large = [member(number * SPAN_BYTES, SPAN_BYTES) for number in range(3)]
    assert list(spans(large)) == [[one] for one in large]
    assert list(spans([])) == []
