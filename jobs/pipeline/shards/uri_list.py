"""List shards: a text, CSV or JSON-lines file that names images by URI, one a line.

A list is data and not trusted as the user is: one in a bucket may name objects in buckets only; a
local one may also name local paths. Relative entries lie beside the list.
"""

from __future__ import annotations

import csv
import io
import json
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator

from jobs.pipeline.shards.folder import PARALLEL_READS, read_file, read_in_parallel
from jobs.pipeline.shards.model import (
    Member,
    ReadOptions,
    Shard,
    ShardIndex,
    ShardReadError,
    printable,
    with_unique_keys,
)
from jobs.pipeline.storage.store import Store, StoreError, locate, parse_url
from tddfa3.errors import UserError

_SUFFIXES = (".txt", ".lst", ".csv", ".tsv", ".jsonl", ".ndjson")
# Columns of a CSV, or fields of a JSON object, that hold the URI; the first one found counts.
_COLUMNS = ("uri", "url", "path", "file_name", "filename", "file", "image", "image_path")
_HEAD_BYTES = 1 << 16
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


class BadList(Exception):
    """The list cannot be used; the text says why, naming the line."""


def is_list_name(name: str) -> bool:
    """Whether a file of this name is a list, by its extension (any case)."""
    return name.lower().endswith(_SUFFIXES)


def listed_archives(
    store: Store, name: str, archive_kind: Callable[[str], object | None]
) -> list[str]:
    """URIs of the archives that a list names; empty if its first entry is not an archive.

    Args:
        store: where the list is.
        name: its name in ``store``.
        archive_kind: None for a name that is not an archive's.

    Raises:
        UserError: it is not a list, or names archives and other things.
        StoreError: it could not be read, or names what it may not (kind ``refused``).
    """
    entries = _entries(name, store.read(name))
    try:
        _, first = next(entries, (0, ""))
        if archive_kind(first) is None:
            return []
        uris = [first, *(uri for _, uri in entries)]
    except BadList as error:
        raise UserError(f"{store.uri(name)}: {error}") from error
    for uri in uris:
        if archive_kind(uri) is None:
            why = f"a list names images or archives, not both ({uri})"
            raise UserError(f"{store.uri(name)}: {why}")
    return [_resolve(uri, store.uri(name)) for uri in uris]


def index(shard: Shard, options: ReadOptions) -> ShardIndex:
    """See :class:`.shards._Format`; reads the list, none of the images."""
    store, name = locate(shard.uri, s3_endpoint=options.s3_endpoint)
    result = ShardIndex(shard.id)
    members: list[Member] = []
    try:
        for line, uri in _entries(name, store.read(name)):
            members.append(Member(printable(uri), uri, line, 0, 1))
            result.end_offset = line
    except BadList as error:
        result.error = str(error)
    result.members = with_unique_keys(members)
    return result


def holds_an_image(shard: Shard, options: ReadOptions) -> bool:
    """See :class:`.shards._Format`; whether the list names anything.

    A list may be long; all of it is read only if its beginning names nothing.
    """
    store, name = locate(shard.uri, s3_endpoint=options.s3_endpoint)
    head = store.read(name, 0, _HEAD_BYTES)
    try:
        if next(_entries(name, head), None) is not None:
            return True
        is_whole = len(head) < _HEAD_BYTES
        return not is_whole and next(_entries(name, store.read(name)), None) is not None
    except BadList:
        return True


def read(
    shard: Shard, members: Iterable[Member], options: ReadOptions
) -> Iterator[tuple[Member, bytes | ShardReadError]]:
    """See :class:`.shards._Format`; several images at once."""

    def read_one(member: Member) -> bytes | ShardReadError:
        try:
            uri = _resolve(member.name, shard.uri)
            store, rel = locate(uri, s3_endpoint=options.s3_endpoint)
        except StoreError as error:
            return ShardReadError("unreadable", shard.id, member.name, member.offset, error.reason)
        return read_file(store, rel, shard.id, member, options.max_member_bytes)

    yield from read_in_parallel(members, read_one, PARALLEL_READS)


def _entries(name: str, content: bytes) -> Iterator[tuple[int, str]]:
    """``(line number from 1, URI)`` of all entries; blank lines and ``#`` comments are left out."""
    text = content.decode("utf-8-sig", "surrogateescape")
    lower = name.lower()
    if lower.endswith((".jsonl", ".ndjson")):
        yield from _json_entries(text)
    elif lower.endswith((".csv", ".tsv")):
        yield from _table_entries(text, "\t" if lower.endswith(".tsv") else ",")
    else:
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip() and not line.startswith("#"):
                yield number, line.strip()


def _json_entries(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise BadList(f"line {number} is not JSON") from error
        if isinstance(record, dict):
            record = next((record[name] for name in _COLUMNS if name in record), None)
        if not isinstance(record, str):
            raise BadList(f"line {number} has none of the fields {', '.join(_COLUMNS)}")
        yield number, record


def _table_entries(text: str, delimiter: str) -> Iterator[tuple[int, str]]:
    rows = csv.reader(io.StringIO(text), delimiter=delimiter)
    column = None
    try:
        for row in rows:
            if not any(row):
                continue
            if column is None:
                lower = [cell.strip().lower() for cell in row]
                column = next((lower.index(name) for name in _COLUMNS if name in lower), None)
                if column is not None:
                    continue
                if len(row) > 1:
                    raise BadList(f"the header has none of the columns {', '.join(_COLUMNS)}")
                column = 0
            if column >= len(row) or not row[column].strip():
                raise BadList(f"line {rows.line_num} has no column {column + 1}")
            yield rows.line_num, row[column].strip()
    except csv.Error as error:
        raise BadList(f"line {rows.line_num}: {error}") from error


def _resolve(entry: str, list_uri: str) -> str:
    """The absolute URI of an entry; relative ones lie beside the list.

    Raises:
        StoreError: kind ``refused``.
    """
    kind, root = parse_url(list_uri)
    if not _SCHEME.match(entry) and kind == "local":
        return posixpath.normpath(posixpath.join(posixpath.dirname(root), entry))
    if entry.startswith("/"):
        raise StoreError("refused", entry, "a list in a bucket cannot name local files")
    uri = entry if _SCHEME.match(entry) else f"{kind}://{posixpath.dirname(root)}/{entry}"
    if kind != "local" and parse_url(uri)[0] != kind:
        raise StoreError("refused", entry, "a list in a bucket can only name what is in buckets")
    return uri
