"""Folder shards: the images that lie directly in one folder, in the order of their names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from jobs.pipeline.shards.model import (
    Member,
    ReadOptions,
    Shard,
    ShardIndex,
    ShardReadError,
    is_image_name,
    printable,
    with_unique_keys,
)
from jobs.pipeline.shards.patterns import compile_pattern
from jobs.pipeline.storage.store import Store, StoreError

PARALLEL_READS = 16
"""Requests under way at once when every image is an object of its own."""

Read = tuple[Member, bytes | ShardReadError]


class FolderDigest:
    """Counts and digests a folder's images one by one, in any order.

    Attributes:
        count: images added so far.
        size: their bytes.
    """

    def __init__(self) -> None:
        self.count = 0
        self.size = 0
        self._sum = 0

    def add(self, name: str, size: int, etag: str) -> None:
        """Take in one image: its name in the folder, its bytes and its etag."""
        self.count += 1
        self.size += size
        text = f"{name}\0{size}\0{etag}".encode("utf-8", "surrogatepass")
        # A sum does not depend on the order, so listings need not be kept to be sorted.
        self._sum += int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "big")

    @property
    def etag(self) -> str:
        """Changes with the name, size or etag of any image, not with their order."""
        return f"{self.count:x}-{self._sum % (1 << 128):032x}"


def index(shard: Shard, options: ReadOptions) -> ShardIndex:
    """See :class:`.shards._Format`; one listing of the folder, no image is read."""
    store = Store.open(shard.uri, s3_endpoint=options.s3_endpoint)
    selected = compile_pattern(shard.pattern)
    digest = FolderDigest()
    members = []
    for entry in store.list(recursive=False):
        if is_image_name(entry.rel) and selected(entry.rel):
            digest.add(entry.rel, entry.size, entry.etag)
            members.append(_member(entry.rel, entry.size, options.max_member_bytes))
    found = ShardIndex(shard.id, with_unique_keys(members), end_offset=len(members))
    if digest.etag != shard.etag:
        found.error = "the folder changed while it was being listed"
    return found


def holds_an_image(shard: Shard, options: ReadOptions) -> bool:
    """Always True: a folder is a shard only if it holds images."""
    return True


def _member(name: str, size: int, limit: int) -> Member:
    error = "" if size <= limit else f"{size} bytes is over the limit of {limit}"
    return Member(printable(name), name, 0, size, 0, error=error)


def read(shard: Shard, members: Iterable[Member], options: ReadOptions) -> Iterator[Read]:
    """See :class:`.shards._Format`; several images at once from a bucket, one at a time locally."""
    store = Store.open(shard.uri, s3_endpoint=options.s3_endpoint)

    def read_one(member: Member) -> bytes | ShardReadError:
        return read_file(store, member.name, shard.id, member, options.max_member_bytes)

    yield from read_in_parallel(members, read_one, 1 if store.kind == "local" else PARALLEL_READS)


def read_file(
    store: Store, rel: str, shard_id: str, member: Member, limit: int
) -> bytes | ShardReadError:
    """One whole file, or the error that stands for it.

    Args:
        store: where the file is.
        rel: its name in ``store``.
        shard_id: of the shard that lists it, for the error.
        member: its entry in that shard, for the error.
        limit: most bytes; a larger file is ``too_large``.

    Raises:
        StoreError: fatal kinds only, except for a local file that is private.
    """
    try:
        data = store.read(rel, 0, limit + 1)
    except StoreError as error:
        # Locally one file may be private; in a bucket, refusal means the credentials.
        if error.fatal and not (error.kind == "denied" and store.kind == "local"):
            raise
        return ShardReadError("unreadable", shard_id, member.name, member.offset, error.reason)
    if len(data) > limit:
        why = f"over the limit of {limit} bytes"
        return ShardReadError("too_large", shard_id, member.name, member.offset, why)
    return data


def read_in_parallel(
    members: Iterable[Member], read_one: Callable[[Member], bytes | ShardReadError], workers: int
) -> Iterator[Read]:
    """Members with ``read_one`` of each, in order; up to ``workers`` are read ahead."""
    if workers == 1:
        for member in members:
            yield member, read_one(member)
        return
    remaining = iter(members)
    with ThreadPoolExecutor(workers, thread_name_prefix="read") as pool:
        ahead: list[tuple[Member, Future[bytes | ShardReadError]]] = []
        while True:
            for member in islice(remaining, workers - len(ahead)):
                ahead.append((member, pool.submit(read_one, member)))
            if not ahead:
                return
            member, future = ahead.pop(0)
            yield member, future.result()
