"""From what the user names as INPUT to a sorted list of shards with lasting ids."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from jobs.pipeline.shards import patterns, uri_list
from jobs.pipeline.shards.folder import FolderDigest
from jobs.pipeline.shards.model import (
    OUTPUT_MARK,
    ReadOptions,
    Shard,
    ShardKind,
    is_image_name,
    printable,
)
from jobs.pipeline.storage.store import Store, locate, parse_url
from tddfa3.errors import UserError

_ARCHIVES: dict[str, ShardKind] = {
    ".tar": "tar",
    ".tar.gz": "tar",
    ".tgz": "tar",
    ".tar.zst": "tar",
    ".tzst": "tar",
    ".zip": "zip",
    ".parquet": "parquet",
    ".pq": "parquet",
}
ROOT_ID = "root"
"""The shard of the images that lie directly in the input folder."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A shard before it has an id: ``rel`` below the folder ``root``."""

    root: str
    rel: str
    uri: str
    kind: ShardKind
    size: int
    etag: str
    pattern: str = "*"


def list_shards(inputs: Sequence[str], options: ReadOptions | None = None) -> list[Shard]:
    """All shards of the inputs, sorted by id, each once.

    An input is a local path, ``file:`` or ``s3://`` URI of

    * a folder or prefix, taken recursively: each archive in it is a shard, and so is each folder
      that directly holds images. Hidden folders, ``__MACOSX`` and the outputs of earlier runs are
      left out;
    * one archive (tar, tar.gz, tar.zst, zip, Parquet) or one image;
    * a list (``.txt``, ``.csv``, ``.tsv``, ``.jsonl``) of URIs of images (one shard) or of archives
      (a shard each);
    * a pattern with ``*``, ``?``, ``[…]`` or ``**`` that matches archives or images.

    Ids are paths relative to the input (to the inputs' common folder if there are several), with
    ``/`` between folders and the extension kept; images directly in the input folder form the shard
    ``root``. They do not depend on what else is there, so that an input may grow between runs.

    Raises:
        UserError: an input does not exist or holds nothing to label.
        StoreError: it could not be listed.
    """
    options = options or ReadOptions()
    found: dict[tuple[str, str], _Found] = {}
    for given in inputs:
        items = list(_expand(given, options))
        for item in items:
            found.setdefault((item.uri, item.pattern), item)
        if not items:
            raise UserError(
                f"{given}: no images, tar, zip or Parquet files in it; "
                "INPUT is a folder, an archive, a list of URIs or a pattern"
            )
    return sorted(_with_ids(list(found.values())), key=lambda shard: shard.id)


def _expand(given: str, options: ReadOptions) -> Iterator[_Found]:
    kind, root = parse_url(given)
    exists = kind == "local" and os.path.lexists(root)
    if patterns.first_wildcard(root) is not None and not exists:
        yield from _expand_pattern(given, kind, root, options)
        return
    if kind == "local" and not exists:
        raise UserError(f"{given}: no such file or folder")
    store = Store.open(given, s3_endpoint=options.s3_endpoint)
    if os.path.isdir(root) if kind == "local" else not _is_object(store, options):
        yield from _in_folder(store, lambda rel: True, "*")
    else:
        yield from _expand_file(store.url, options)


def _is_object(store: Store, options: ReadOptions) -> bool:
    if "/" not in store.url.partition("://")[2]:
        return False
    folder, name = locate(store.url, s3_endpoint=options.s3_endpoint)
    return folder.exists(name)


def _expand_file(uri: str, options: ReadOptions) -> Iterator[_Found]:
    store, name = locate(uri, s3_endpoint=options.s3_endpoint)
    size, etag = store.size_etag(name)
    kind = archive_kind(name)
    if kind is not None:
        yield _Found(store.url, name, uri, kind, size, etag)
    elif is_image_name(name):
        digest = FolderDigest()
        digest.add(name, size, etag)
        pattern = patterns.escape(name)
        yield _Found(store.url, name, store.url, "folder", size, digest.etag, pattern)
    elif uri_list.is_list_name(name):
        archives = uri_list.listed_archives(store, name, archive_kind)
        for archive in archives:
            yield from _expand_file(archive, options)
        if not archives:
            yield _Found(store.url, name, uri, "list", size, etag)
    else:
        raise UserError(
            f"{uri}: not an image, an archive (tar, tar.gz, tar.zst, zip, parquet) "
            "or a list (txt, csv, tsv, jsonl), by its extension"
        )


def _expand_pattern(given: str, kind: str, root: str, options: ReadOptions) -> Iterator[_Found]:
    fixed = root[: patterns.first_wildcard(root)].rpartition("/")[0]
    if kind != "local" and not fixed:
        raise UserError(f"{given}: the bucket's name cannot be a pattern")
    url = (fixed or "/") if kind == "local" else f"{kind}://{fixed}"
    pattern = root[len(fixed) + 1 :]
    store = Store.open(url, s3_endpoint=options.s3_endpoint)
    wanted = patterns.compile_pattern(pattern)
    yield from _in_folder(store, wanted, pattern.rpartition("/")[2])


def _in_folder(store: Store, wanted: Callable[[str], bool], pattern: str) -> Iterator[_Found]:
    """Archives and folders of images below a store's root whose names are ``wanted``.

    Only folders are held in memory, not their images.
    """
    archives = []
    folders: defaultdict[str, FolderDigest] = defaultdict(FolderDigest)
    outputs: list[str] = []
    for entry in store.walk():
        if f"/{entry.rel}".endswith(f"/{OUTPUT_MARK}"):
            outputs.append(entry.rel.removesuffix(OUTPUT_MARK))
        elif _is_hidden(entry.rel) or not wanted(entry.rel):
            continue
        elif (kind := archive_kind(entry.rel)) is not None:
            uri = store.uri(entry.rel)
            archives.append(_Found(store.url, entry.rel, uri, kind, entry.size, entry.etag))
        elif is_image_name(entry.rel):
            folder, _, name = entry.rel.rpartition("/")
            folders[folder].add(name, entry.size, entry.etag)
    for found in archives:
        if not found.rel.startswith(tuple(outputs)):
            yield found
    for rel, digest in folders.items():
        if not f"{rel}/".startswith(tuple(outputs)):
            uri = store.uri(rel)
            yield _Found(store.url, rel, uri, "folder", digest.size, digest.etag, pattern)


def archive_kind(name: str) -> ShardKind | None:
    """The format of an archive by its extension (any case); None if it is not an archive."""
    lower = name.lower()
    return next((kind for suffix, kind in _ARCHIVES.items() if lower.endswith(suffix)), None)


def _is_hidden(rel: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in rel.split("/"))


def _with_ids(found: list[_Found]) -> Iterator[Shard]:
    """Give each shard its id.

    Ids that are equal but for case (an image given by name beside a prefix of that name, two
    patterns over one folder) get a digest of what makes them different.
    """
    roots = [_parts(item.root) for item in found]
    shared = _shared_length(roots)
    ids = [_id((*root[shared:], item.rel)) for root, item in zip(roots, found, strict=True)]
    times = Counter(shard_id.casefold() for shard_id in ids)
    for shard_id, item in zip(ids, found, strict=True):
        if times[shard_id.casefold()] > 1:
            text = f"{item.kind}\0{item.root}\0{item.rel}\0{item.pattern}"
            digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
            shard_id = f"{shard_id}~{digest[:8]}"
        yield Shard(shard_id, item.uri, item.kind, item.size, item.etag, item.pattern)


def _shared_length(roots: list[tuple[str, ...]]) -> int:
    """How many leading parts all roots have in common."""
    return sum(1 for _ in takewhile(lambda parts: len(set(parts)) == 1, zip(*roots, strict=False)))


def _parts(url: str) -> tuple[str, ...]:
    kind, root = parse_url(url)
    return (kind, *(part for part in root.split("/") if part))


def _id(parts: Sequence[str]) -> str:
    path = printable("/".join(part for part in parts if part))
    if not path:
        return ROOT_ID
    # A folder that is really called root must not take the name of the images outside folders.
    return f"{path}_" if re.fullmatch(f"{ROOT_ID}_*", path) else path
