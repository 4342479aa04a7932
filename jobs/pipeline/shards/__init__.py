"""Shards: one archive, or one folder of images, as an ordered stream of ``(key, bytes)``.

Three steps: :func:`list_shards` from what the user named, :func:`index_shard` to a table of members
(kept, so that each shard is listed once), :func:`read_members` for the members of one chunk. After
the first, :func:`holds_an_image` finds out whether there is anything to do. Archives are read in
place and never extracted; names in them are data.

A format is a module with the functions of :class:`_Format`. To add one, write the module, enter
it in ``_FORMATS`` and ``ShardKind``, and teach :mod:`.listing` to recognise it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

from jobs.pipeline.shards import folder, parquet, tar, uri_list, zips
from jobs.pipeline.shards.listing import ROOT_ID, list_shards
from jobs.pipeline.shards.model import (
    Member,
    ReadErrorKind,
    ReadOptions,
    Shard,
    ShardIndex,
    ShardKind,
    ShardReadError,
)
from jobs.pipeline.storage.store import StoreError, locate

__all__ = [
    "ROOT_ID",
    "Member",
    "ReadOptions",
    "Shard",
    "ShardIndex",
    "ShardReadError",
    "holds_an_image",
    "index_shard",
    "list_shards",
    "read_members",
]


class _Format(Protocol):
    """What a module of this package offers for one kind of shard."""

    def index(self, shard: Shard, options: ReadOptions) -> ShardIndex:
        """List the shard's members in order, with unique keys.

        Damage is reported in the index's ``error``, beside the members found before it.

        Raises:
            StoreError: the storage failed, or the shard is gone.
        """

    def holds_an_image(self, shard: Shard, options: ReadOptions) -> bool:
        """Whether the shard has an image, or is damaged before its first one.

        Raises:
            StoreError: the storage failed, or the shard is gone.
        """

    def read(
        self, shard: Shard, members: Iterable[Member], options: ReadOptions
    ) -> Iterator[tuple[Member, bytes | ShardReadError]]:
        """Each member once, in the order of offsets, with its encoded bytes.

        A member that cannot be read comes with its error instead, and the others still follow.

        Args:
            shard: the shard, unchanged since it was indexed.
            members: some of its members, none of them with an ``error``.
            options: as for ``index``.

        Raises:
            StoreError: the storage failed, or the shard is gone.
        """


_FORMATS: dict[ShardKind, _Format] = {
    "folder": folder,
    "tar": tar,
    "zip": zips,
    "parquet": parquet,
    "list": uri_list,
}
_PROBES_AT_ONCE = 16


def holds_an_image(shards: Sequence[Shard], options: ReadOptions | None = None) -> bool:
    """Whether any of the shards holds an image, or may hold one because it cannot be read.

    It stops at the first such shard. Of an archive with images only the beginning is read, as far
    as the format allows.

    Raises:
        StoreError: fatal kinds only.
    """
    probe = partial(_may_hold_an_image, options=options or ReadOptions())
    if any(map(probe, shards[:1])):
        return True
    with ThreadPoolExecutor(_PROBES_AT_ONCE, thread_name_prefix="probe") as pool:
        return any(
            any(pool.map(probe, shards[first : first + _PROBES_AT_ONCE]))
            for first in range(1, len(shards), _PROBES_AT_ONCE)
        )


def _may_hold_an_image(shard: Shard, options: ReadOptions) -> bool:
    try:
        return bool(_FORMATS[shard.kind].holds_an_image(shard, options))
    except StoreError as error:
        if _is_fatal(error, shard):
            raise
        return True


def index_shard(shard: Shard, options: ReadOptions | None = None) -> ShardIndex:
    """List the members of a shard, reading as little of it as its format allows.

    If the shard itself is damaged, cut, gone or unreadable, that is not raised but reported in the
    index's ``error``, beside the members found before that point.

    Raises:
        StoreError: fatal kinds only (see :data:`jobs.pipeline.storage.store.FATAL_KINDS`).
    """
    options = options or ReadOptions()
    try:
        index = _FORMATS[shard.kind].index(shard, options)
        _require_unchanged(shard, options)
    except _ShardChanged as error:
        return ShardIndex(shard.id, error=f"{error}, at offset 0")
    except StoreError as error:
        if _is_fatal(error, shard):
            raise
        return ShardIndex(shard.id, error=f"{error.reason}, at offset 0")
    return index


def read_members(
    shard: Shard, members: Iterable[Member], options: ReadOptions | None = None
) -> Iterator[tuple[Member, bytes | ShardReadError]]:
    """The encoded bytes of members of one shard, or what keeps one from being read.

    Every member is yielded exactly once; those whose index entry has an error come first and are
    not read, the others follow in the order of their offsets. Neighbours are fetched together, at
    most 32 MiB at a time; nothing is read ahead beyond that, so a slow consumer slows reading down.

    Raises:
        StoreError: fatal kinds only.
    """
    options = options or ReadOptions()
    pending: dict[str, Member] = {}
    for member in members:
        if member.error:
            kind: ReadErrorKind = "too_large" if "over the limit" in member.error else "unreadable"
            yield member, _error(kind, shard, member, member.error)
        else:
            pending[member.key] = member
    try:
        _require_unchanged(shard, options)
        wanted = list(pending.values())
        for member, content in _FORMATS[shard.kind].read(shard, wanted, options):
            del pending[member.key]
            yield member, content
    except _ShardChanged as error:
        for member in pending.values():
            yield member, _error("changed", shard, member, str(error))
    except StoreError as error:
        if _is_fatal(error, shard):
            raise
        for member in pending.values():
            yield member, _error("unreadable", shard, member, error.reason)


class _ShardChanged(Exception):
    """The archive is not the one that was indexed."""


def _require_unchanged(shard: Shard, options: ReadOptions) -> None:
    """Raise _ShardChanged if the archive changed: its members' offsets are void then."""
    if shard.kind in ("folder", "list"):
        return
    store, name = locate(shard.uri, s3_endpoint=options.s3_endpoint)
    if store.size_etag(name) != (shard.size, shard.etag):
        raise _ShardChanged("the archive changed since it was found")


def _error(kind: ReadErrorKind, shard: Shard, member: Member, why: str) -> ShardReadError:
    return ShardReadError(kind, shard.id, member.name, member.offset, why)


def _is_fatal(error: StoreError, shard: Shard) -> bool:
    """Whether reading other shards would fail too. A local file may simply be private."""
    local = "://" not in shard.uri
    return error.fatal and not (error.kind == "denied" and local)
