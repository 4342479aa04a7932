"""Chunks: every member in exactly one, in order, within the limits, the same every time."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.pipeline.record.chunks import cut
from jobs.pipeline.shards import Member, ShardIndex

SIZES = st.lists(st.integers(0, 1000), max_size=200)


def make_index(sizes: list[int]) -> ShardIndex:
    members = []
    offset = 512
    for number, size in enumerate(sizes):
        members.append(Member(f"{number}", f"{number}.jpg", offset, size, size))
        offset += size + 512
    return ShardIndex("shard.tar", members)


@given(SIZES, st.integers(1, 50), st.integers(1, 5000))
def test_chunks_partition_the_members_in_order(
    sizes: list[int], chunk_images: int, chunk_bytes: int
) -> None:
    index = make_index(sizes)
    chunks = cut(index, chunk_images, chunk_bytes)
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
    position = 0
    for chunk in chunks:
        assert chunk.first == position
        assert 1 <= chunk.count <= chunk_images
        held = sizes[chunk.first : chunk.first + chunk.count]
        assert sum(held) <= chunk_bytes or chunk.count == 1
        position += chunk.count
    assert position == len(sizes)
    assert chunks == cut(index, chunk_images, chunk_bytes)


@given(SIZES, st.integers(1, 50), st.integers(1, 5000))
def test_a_chunk_ends_only_when_the_next_image_does_not_fit(
    sizes: list[int], chunk_images: int, chunk_bytes: int
) -> None:
    chunks = cut(make_index(sizes), chunk_images, chunk_bytes)
    for chunk, following in pairwise(chunks):
        held = sum(sizes[chunk.first : following.first])
        full = chunk.count == chunk_images or held + sizes[following.first] > chunk_bytes
        assert full


def test_the_span_holds_all_members_even_those_that_link_back() -> None:
    index = make_index([100, 100, 100])
    link = index.members[0]
    index.members.append(Member("link", "link.jpg", link.offset, link.size, link.span))
    (first, second) = cut(index, 2, 10**6)
    assert (first.offset_lo, first.offset_hi) == (512, 512 + 100 + 512 + 100)
    assert second.offset_lo == link.offset
    assert second.offset_hi == index.members[2].offset + 100


def test_members_that_are_not_read_cost_no_bytes() -> None:
    index = make_index([10, 10, 10])
    index.members[1] = Member("1", "1.jpg", 0, 10**12, 10**12, error="over the limit")
    assert len(cut(index, 10, 20)) == 1


@pytest.mark.parametrize("limits", [(0, 1), (1, 0), (-1, 5)])
def test_limits_must_be_positive(limits: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="limits"):
        cut(make_index([1]), *limits)
