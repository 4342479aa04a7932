"""Tar shards, plain or compressed as a whole (gzip, zstd), in WebDataset's layout or any other.

A compressed archive is listed and read as a stream; offsets count decompressed bytes.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from jobs.pipeline.shards.model import (
    Member,
    ReadOptions,
    Shard,
    ShardIndex,
    ShardReadError,
    is_image_name,
    printable,
    unique_keys,
)
from jobs.pipeline.shards.reader import RangeReader, spans
from jobs.pipeline.shards.streams import (
    Compression,
    CorruptStream,
    ForwardReader,
    compression_of,
    forward_reader,
    park,
    resume,
)
from jobs.pipeline.shards.tar_headers import HARD_LINK, REGULAR, DamagedTar, Header, read_headers
from jobs.pipeline.storage.store import locate


def index(shard: Shard, options: ReadOptions) -> ShardIndex:
    """See :class:`.shards._Format`; reads headers only where the archive is not compressed."""
    source = _source(shard, options)
    result = ShardIndex(shard.id)
    images: list[_Image] = []
    try:
        for image in _images(read_headers(source), options.max_member_bytes):
            images.append(image)
        if isinstance(source, ForwardReader):
            source.drain()
    except DamagedTar as error:
        result.error = f"{error.why} at offset {error.offset}"
        result.end_offset = error.offset
    except CorruptStream as error:
        result.error = f"{error.why} at offset {error.offset} of the decompressed stream"
        result.end_offset = error.offset
    else:
        result.end_offset = max((image.offset + image.size for image in images), default=0)
    keys = unique_keys(_sample_keys([image.name for image in images]))
    result.members = [
        Member(key, image.name, image.offset, image.size, image.size, error=image.error)
        for key, image in zip(keys, images, strict=True)
    ]
    return result


def holds_an_image(shard: Shard, options: ReadOptions) -> bool:
    """See :class:`.shards._Format`; reads as far as the first image."""
    source = _source(shard, options)
    try:
        if next(_images(read_headers(source), options.max_member_bytes), None) is not None:
            return True
        if isinstance(source, ForwardReader):
            source.drain()
    except (DamagedTar, CorruptStream):
        return True
    return False


def _source(shard: Shard, options: ReadOptions) -> RangeReader | ForwardReader:
    """The archive's bytes; decompressed, if it is compressed."""
    store, rel = locate(shard.uri, s3_endpoint=options.s3_endpoint)
    reader = RangeReader(store, rel, shard.size)
    compression = compression_of(reader.pread(0, 8))
    return forward_reader(reader, compression) if compression else reader


class _Image(NamedTuple):
    """What the header says about an image; keys are made once all names are known."""

    name: str
    offset: int
    size: int
    error: str = ""


def read(
    shard: Shard, members: Iterable[Member], options: ReadOptions
) -> Iterator[tuple[Member, bytes | ShardReadError]]:
    """See :class:`.shards._Format`; a compressed archive is read forwards and parked afterwards."""
    store, rel = locate(shard.uri, s3_endpoint=options.s3_endpoint)
    if _compression(shard, options) is None:
        for group in spans(members):
            low = group[0].offset
            data = store.read(rel, low, max(m.offset + m.span for m in group))
            for member in group:
                yield member, _take(shard, member, data, member.offset - low)
        return
    members = sorted(members, key=lambda member: member.offset)
    if not members:
        return
    stream = resume(shard, members[0].offset, options)
    for position, member in enumerate(members):
        try:
            content = stream.pread(member.offset, member.size)
        except CorruptStream as error:
            # Nothing after the damage can be reached either.
            for lost in members[position:]:
                yield lost, _unreadable(shard, lost, error.why)
            return
        yield member, _take(shard, member, content, 0)
    park(shard, stream)


@functools.lru_cache(maxsize=64)
def _compression(shard: Shard, options: ReadOptions) -> Compression | None:
    """Read once per shard and process; the cache's key includes the shard's etag."""
    store, rel = locate(shard.uri, s3_endpoint=options.s3_endpoint)
    return compression_of(store.read(rel, 0, 8))


def _take(shard: Shard, member: Member, data: bytes, start: int) -> bytes | ShardReadError:
    content = data[start : start + member.size]
    if len(content) < member.size:
        return _unreadable(shard, member, "the archive ends inside it")
    return content


def _unreadable(shard: Shard, member: Member, why: str) -> ShardReadError:
    return ShardReadError("unreadable", shard.id, member.name, member.offset, why)


def _images(headers: Iterable[Header], limit: int) -> Iterator[_Image]:
    """The members that are images, hard links resolved to what they link to."""
    contents: dict[str, Header] = {}
    for header in headers:
        if header.kind in REGULAR or header.sparse:
            contents[header.name] = header
        elif header.kind == HARD_LINK:
            target = contents.get(header.link)
            if target is None:
                if is_image_name(header.name):
                    error = f"hard link to {printable(header.link)}, which is not in the archive"
                    yield _Image(header.name, header.offset, 0, error)
                continue
            contents[header.name] = header = replace(target, name=header.name)
        else:
            continue
        if is_image_name(header.name):
            error = ""
            if header.sparse:
                error = "sparse files are not supported"
            elif header.size > limit:
                error = f"{header.size} bytes is over the limit of {limit}"
            yield _Image(header.name, header.offset, header.size, error)


def _sample_keys(names: Sequence[str]) -> list[str]:
    """WebDataset's rule: a sample's key is its path up to the first dot of the base name.

    A sample with several images gives each its whole name instead.
    """
    samples = [_sample_key(name) for name in names]
    images = Counter(samples)
    return [
        printable(sample if images[sample] == 1 else name)
        for sample, name in zip(samples, names, strict=True)
    ]


def _sample_key(name: str) -> str:
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]
