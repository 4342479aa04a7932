"""Cutting a shard into chunks: the unit of work, of retry, of commit and of resume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jobs.pipeline.shards.model import ShardIndex


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive images of one shard.

    Attributes:
        shard_id: the shard.
        number: counts from 0 within the shard; names the part file together with ``shard_id``.
        first: position of its first member in the shard's index.
        count: how many members it has.
        offset_lo: where its first member begins, in bytes of the shard (of the decompressed stream
            where the archive is compressed as a whole; in rows of Parquet and lines of a list).
        offset_hi: where its last member ends, in the same unit.
    """

    shard_id: str
    number: int
    first: int
    count: int
    offset_lo: int
    offset_hi: int


def cut(index: ShardIndex, chunk_images: int, chunk_bytes: int) -> list[Chunk]:
    """Cut a shard's members, in order, into chunks that are filled one after the other.

    The cut depends on the index and the two limits only, never on the cluster: the same shard gives
    the same chunks on every run. A chunk has at most ``chunk_images`` images and at most
    ``chunk_bytes`` of encoded bytes, but always at least one image. Members that won't be read
    (too large, damaged) count as images without bytes.

    Raises:
        ValueError: a limit is not positive.
    """
    if chunk_images < 1 or chunk_bytes < 1:
        raise ValueError(f"limits must be positive: {chunk_images=}, {chunk_bytes=}")
    sizes = [0 if member.error else member.size for member in index.members]
    chunks = []
    for number, (first, end) in enumerate(_ranges(sizes, chunk_images, chunk_bytes)):
        members = index.members[first:end]
        low = min(member.offset for member in members)
        high = max(member.offset + member.span for member in members)
        chunks.append(Chunk(index.shard_id, number, first, end - first, low, high))
    return chunks


def first_images(chunks: Sequence[Chunk], limit: int) -> list[Chunk]:
    """The chunks of the first ``limit`` images; the last chunk may be shortened."""
    kept = []
    for chunk in chunks:
        if limit <= 0:
            break
        kept.append(replace(chunk, count=min(chunk.count, limit)))
        limit -= chunk.count
    return kept


def _ranges(sizes: Sequence[int], most_images: int, most_bytes: int) -> list[tuple[int, int]]:
    ranges = []
    first = held = 0
    for number, size in enumerate(sizes):
        full = number - first >= most_images or held + size > most_bytes
        if full and number > first:
            ranges.append((first, number))
            first, held = number, 0
        held += size
    if len(sizes) > first:
        ranges.append((first, len(sizes)))
    return ranges
