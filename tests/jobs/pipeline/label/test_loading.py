"""Reading and decoding ahead: in order, bounded, and stopped when nobody wants more."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs.pipeline.label import loading
from jobs.pipeline.label.loading import ImageLoader, Stopwatch
from jobs.pipeline.shards import Member, ShardReadError
from tests.support.fakes import png

MOST_IMAGES = 64


def member(number: int) -> Member:
    return Member(f"k{number}", f"k{number}.png", number, 1, 1)


@pytest.fixture
def decoders() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


class Source:
    """Members with their bytes; remembers how many were read."""

    def __init__(self, count: int, size: tuple[int, int] = (16, 12)) -> None:
        self.count, self.size, self.taken = count, size, 0
        self.data = png(size=size)

    def __call__(self) -> Iterator[tuple[Member, bytes | ShardReadError]]:
        for number in range(self.count):
            self.taken += 1
            yield member(number), self.data


def loader(source: object, decoders: ThreadPoolExecutor, watch: Stopwatch) -> ImageLoader:
    return ImageLoader(source, "s", 10**6, decoders, watch, MOST_IMAGES)  # type: ignore[arg-type]


def settle(source: Source) -> int:
    """How many members have been read when reading has come to rest."""
    before = -1
    while before != source.taken:
        before = source.taken
        time.sleep(0.1)
    return before


def test_images_come_in_order_with_digest_and_size(decoders: ThreadPoolExecutor) -> None:
    watch = Stopwatch()
    with loader(Source(200), decoders, watch) as images:
        loaded = list(images)
    assert [one.record.key for one in loaded] == [f"k{i}" for i in range(200)]
    assert {(one.record.width, one.record.height) for one in loaded} == {(16, 12)}
    assert len({one.record.sha256 for one in loaded}) == 1
    assert set(watch.seconds) == {"read", "decode"}


def test_reading_stops_at_the_bound_on_images(decoders: ThreadPoolExecutor) -> None:
    source = Source(1000)
    with loader(source, decoders, Stopwatch()) as images:
        assert settle(source) == MOST_IMAGES
        iterator = iter(images)
        for _ in range(10):
            next(iterator)
        assert settle(source) == MOST_IMAGES + 10
    assert source.taken < 100


def test_reading_stops_at_the_bound_on_bytes(
    decoders: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = 16 * 12 * 3
    monkeypatch.setattr(loading, "MOST_BYTES", 5 * one)
    source = Source(1000)
    with loader(source, decoders, Stopwatch()):
        # What is being decoded when the bound is reached comes on top.
        assert settle(source) < MOST_IMAGES


def test_what_reading_raises_reaches_the_consumer(decoders: ThreadPoolExecutor) -> None:
    def read() -> Iterator[tuple[Member, bytes]]:
        yield member(0), png()
        raise ConnectionError("gone")

    with loader(read, decoders, Stopwatch()) as images:
        iterator = iter(images)
        assert next(iterator).record.key == "k0"
        with pytest.raises(ConnectionError, match="gone"):
            next(iterator)


def test_leaving_early_ends_the_reading_thread(decoders: ThreadPoolExecutor) -> None:
    before = threading.active_count()
    with loader(Source(10**9), decoders, Stopwatch()) as images:
        next(iter(images))
    assert not any(thread.name == "reading" for thread in threading.enumerate())
    assert threading.active_count() <= before + 2


def test_a_member_that_cannot_be_read_is_a_failure_of_that_image(
    decoders: ThreadPoolExecutor,
) -> None:
    def read() -> Iterator[tuple[Member, bytes | ShardReadError]]:
        yield member(0), ShardReadError("unreadable", "s", "k0.png", 7, "bad CRC")
        yield member(1), ShardReadError("too_large", "s", "k1.png", 8, "over the limit")

    with loader(read, decoders, Stopwatch()) as images:
        failures = [one.failure for one in images]
    assert [f.status for f in failures if f] == ["decode_error", "too_large"]
    assert failures[0] is not None
    assert "offset 7" in failures[0].error


def test_a_shard_that_changed_fails_the_chunk_not_its_images(decoders: ThreadPoolExecutor) -> None:
    def read() -> Iterator[tuple[Member, ShardReadError]]:
        yield member(0), ShardReadError("changed", "s", "k0.png", 0, "the archive changed")

    with (
        loader(read, decoders, Stopwatch()) as images,
        pytest.raises(ShardReadError, match="changed"),
    ):
        next(iter(images))
