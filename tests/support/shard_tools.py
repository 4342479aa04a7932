"""Small helpers for the tests of shard formats."""

from __future__ import annotations

import hashlib
from pathlib import Path

from jobs.pipeline.shards import (
    ReadOptions,
    Shard,
    ShardIndex,
    ShardReadError,
    index_shard,
    list_shards,
    read_members,
)


def picture(name: str, size: int = 700) -> bytes:
    """Bytes that differ for every name. Shards do not look inside images, so these need not be."""
    block = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return (block * (size // len(block) + 1))[:size]


def write_files(folder: Path, *names: str, size: int = 700) -> None:
    """Files whose content is :func:`picture` of their name."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(name, size))


def only_shard(uri: object, options: ReadOptions | None = None) -> Shard:
    (shard,) = list_shards([str(uri)], options)
    return shard


def read_errors(shard: Shard, options: ReadOptions | None = None) -> list[ShardReadError]:
    """The errors of a shard whose every member has one."""
    found = [c for _, c in read_members(shard, index_shard(shard, options).members, options)]
    errors = [content for content in found if isinstance(content, ShardReadError)]
    assert len(errors) == len(found)
    return errors


def read_all(
    uri: object, options: ReadOptions | None = None
) -> tuple[ShardIndex, dict[str, bytes | str]]:
    """The index of the one shard at ``uri``, and each key's bytes (or the text of its error)."""
    shard = only_shard(uri, options)
    index = index_shard(shard, options)
    contents: dict[str, bytes | str] = {}
    for member, content in read_members(shard, index.members, options):
        assert member.key not in contents
        contents[member.key] = str(content) if isinstance(content, ShardReadError) else content
    assert sorted(contents) == sorted(member.key for member in index.members)
    return index, contents
