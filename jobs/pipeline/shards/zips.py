"""Zip shards: the central directory by range reads, members in the order of their offsets."""

from __future__ import annotations

import bz2
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator

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
from jobs.pipeline.shards.reader import RangeFile, RangeReader, spans
from jobs.pipeline.storage.store import locate

_SIGNATURE = b"PK\x03\x04"
# Signature, flags, compressed size, lengths of name and extra field.
_LOCAL_HEADER = struct.Struct("<4s2xH10xL4xHH")
# How much of an archive is searched for its first image before its directory is read.
_HEAD_BYTES = 1 << 16
# Name and extra field of a local header, at most.
_MOST_NAME = 2 * 0xFFFF
_METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflate", zipfile.ZIP_BZIP2: "bz2"}
_ENCRYPTED = 0x1
_SIZES_FOLLOW = 0x8
_UTF8 = 0x800
# What zipfile raises for a directory that is damaged, cut or hostile.
_DAMAGE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    NotImplementedError,
    EOFError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
)


class _Damaged(Exception):
    """A member cannot be read; the text says why."""


def index(shard: Shard, options: ReadOptions) -> ShardIndex:
    """See :class:`.shards._Format`; reads the central directory only."""
    store, rel = locate(shard.uri, s3_endpoint=options.s3_endpoint)
    file = RangeFile(RangeReader(store, rel, shard.size))
    try:
        with zipfile.ZipFile(file) as archive:
            infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
            end = archive.start_dir
    except _DAMAGE as error:
        why = f"not a readable zip file, or cut before its directory at the end ({error})"
        return ShardIndex(shard.id, error=f"{why}, at offset {shard.size}", end_offset=shard.size)
    following = [*(info.header_offset for info in infos), end][1:]
    members = [
        _member(info, name, after, options.max_member_bytes)
        for info, after in zip(infos, following, strict=False)
        if is_image_name(name := _name(info)) and _is_content(name)
    ]
    return ShardIndex(shard.id, with_unique_keys(members), end_offset=shard.size)


def holds_an_image(shard: Shard, options: ReadOptions) -> bool:
    """See :class:`.shards._Format`; looks at the beginning, then at the directory.

    Nearly every archive of images has one near its beginning, so that the directory, which may be
    long, is rarely read.
    """
    store, rel = locate(shard.uri, s3_endpoint=options.s3_endpoint)
    head = store.read(rel, 0, min(shard.size, _HEAD_BYTES)) if shard.size else b""
    if any(is_image_name(name) and _is_content(name) for name in _first_names(head)):
        return True
    listed = index(shard, options)
    return bool(listed.members or listed.error)


def _first_names(head: bytes) -> Iterator[str]:
    """Names of the first members, from their local headers.

    It ends where a header does not say where the next one is.
    """
    offset = 0
    while len(head) >= offset + _LOCAL_HEADER.size:
        signature, flags, size, name, extra = _LOCAL_HEADER.unpack_from(head, offset)
        if signature != _SIGNATURE:
            return
        begin = offset + _LOCAL_HEADER.size
        yield head[begin : begin + name].decode("utf-8", "replace")
        if flags & _SIZES_FOLLOW:
            return
        offset = begin + name + extra + size


def read(
    shard: Shard, members: Iterable[Member], options: ReadOptions
) -> Iterator[tuple[Member, bytes | ShardReadError]]:
    """See :class:`.shards._Format`; checks sizes and CRC-32."""
    store, rel = locate(shard.uri, s3_endpoint=options.s3_endpoint)
    for group in spans(members):
        low = group[0].offset
        data = memoryview(store.read(rel, low, max(m.offset + m.span for m in group)))
        for member in group:
            begin = member.offset - low
            try:
                yield member, _content(member, data[begin : begin + member.span])
            except _Damaged as error:
                where = (shard.id, member.name, member.offset)
                yield member, ShardReadError("unreadable", *where, str(error))


def _name(info: zipfile.ZipInfo) -> str:
    """The member's name: UTF-8 where it is valid UTF-8, flagged or not.

    Info-ZIP writes UTF-8 without the flag; only a name that is not valid UTF-8 is read as the DOS
    code page (cp437) that the format prescribes.
    """
    name = info.orig_filename.partition("\0")[0]
    if info.flag_bits & _UTF8:
        return name
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return name


def _is_content(name: str) -> bool:
    """Whether it is more than a resource fork, which macOS keeps in a folder of its own."""
    return not name.startswith("__MACOSX/")


def _member(info: zipfile.ZipInfo, name: str, following: int, limit: int) -> Member:
    least = _LOCAL_HEADER.size + len(info.orig_filename) + info.compress_size
    error = ""
    if info.flag_bits & _ENCRYPTED:
        error = "encrypted members are not supported"
    elif info.compress_type not in _METHODS:
        error = f"compression method {info.compress_type} is not supported"
    elif info.file_size > limit:
        error = f"{info.file_size} bytes is over the limit of {limit}"
    elif info.header_offset + least > following:
        # Overlapping members are how a small zip file expands to petabytes.
        error = "overlaps what follows it in the archive"
    return Member(
        key=printable(name),
        name=name,
        offset=info.header_offset,
        size=info.file_size,
        # Local headers may be longer than the directory says, by no more than this.
        span=max(0, min(following - info.header_offset, least + _MOST_NAME)),
        method=info.compress_type,
        crc=info.CRC,
        error=error,
    )


def _content(member: Member, data: memoryview) -> bytes:
    if len(data) < _LOCAL_HEADER.size:
        raise _Damaged("the archive ends before it")
    signature, _, _, name_length, extra_length = _LOCAL_HEADER.unpack_from(data)
    if signature != _SIGNATURE:
        raise _Damaged("no member header where the directory says one is")
    content = _decompress(member, data[_LOCAL_HEADER.size + name_length + extra_length :])
    if len(content) != member.size:
        raise _Damaged(f"{member.size} bytes announced, {len(content)} found")
    if zlib.crc32(content) != member.crc:
        raise _Damaged("bad CRC-32")
    return content


def _decompress(member: Member, data: memoryview) -> bytes:
    # One byte more than announced is enough to see that there is more.
    most = member.size + 1
    try:
        if member.method == zipfile.ZIP_STORED:
            return bytes(data[: member.size])
        if member.method == zipfile.ZIP_BZIP2:
            return bz2.BZ2Decompressor().decompress(data, most)
        return zlib.decompressobj(wbits=-zlib.MAX_WBITS).decompress(data, most)
    except (zlib.error, OSError) as error:
        raise _Damaged(f"corrupt compressed data ({error})") from error
