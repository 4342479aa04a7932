"""Tar shards, plain or compressed as a whole (gzip, zstd), in WebDataset's layout or any other.

Headers are parsed here rather than by :class:`tarfile.TarFile`, which takes a damaged or cut header
for the end of the archive and says nothing: images would be lost without a trace.
"""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

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
from jobs.pipeline.shards.reader import ByteSource, RangeReader, spans
from jobs.pipeline.shards.streams import CorruptStream, compression_of, forward_reader, parked
from jobs.pipeline.store import locate

BLOCK = 512
#: A long name or a set of pax records above this is damage, not a name.
_MAX_EXTENSION = 1 << 20
_REGULAR = {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE}
#: How far past an end-of-archive marker to look for an appended archive (GNU tar's largest
#: customary blocking).
_MAX_PADDING = 1 << 20


class DamagedTar(Exception):
    """The archive is damaged or cut at ``offset``."""

    def __init__(self, offset: int, why: str) -> None:
        super().__init__(offset, why)
        self.offset = offset
        self.why = why


@dataclass(frozen=True, slots=True)
class _Header:
    name: str
    kind: bytes
    link: str
    offset: int
    size: int
    sparse: bool


def index(shard: Shard, options: ReadOptions) -> ShardIndex:
    store, rel = locate(shard.uri, s3_endpoint=options.s3_endpoint)
    reader = RangeReader(store, rel, shard.size)
    compression = compression_of(reader.pread(0, 8))
    source: ByteSource = forward_reader(reader, compression) if compression else reader
    result = ShardIndex(shard.id)
    members: list[Member] = []
    try:
        for member in _images(_headers(source), options.max_member_bytes):
            members.append(member)
    except DamagedTar as error:
        result.error = f"{error.why} at offset {error.offset}"
        result.end_offset = error.offset
    except CorruptStream as error:
        result.error = f"{error.why} at offset {error.offset} of the decompressed stream"
        result.end_offset = error.offset
    else:
        result.end_offset = max((m.offset + m.span for m in members), default=0)
    result.members = with_unique_keys(_with_sample_keys(members))
    return result


def read(
    shard: Shard, members: Iterable[Member], options: ReadOptions
) -> Iterator[tuple[Member, bytes | ShardReadError]]:
    store, rel = locate(shard.uri, s3_endpoint=options.s3_endpoint)
    compression = compression_of(store.read(rel, 0, 8))
    if compression is None:
        for group in spans(members):
            low = group[0].offset
            data = store.read(rel, low, max(m.offset + m.span for m in group))
            for member in group:
                yield member, _take(shard, member, data, member.offset - low)
        return
    members = sorted(members, key=lambda member: member.offset)
    if not members:
        return
    with parked(shard, members[0].offset, options) as stream:
        for position, member in enumerate(members):
            try:
                yield member, _take(shard, member, stream.pread(member.offset, member.size), 0)
            except CorruptStream as error:
                # Nothing after the damage can be reached either.
                for lost in members[position:]:
                    yield lost, _unreadable(shard, lost, error.why)
                return


def _take(shard: Shard, member: Member, data: bytes, start: int) -> bytes | ShardReadError:
    content = data[start : start + member.size]
    if len(content) < member.size:
        return _unreadable(shard, member, "the archive ends inside it")
    return content


def _unreadable(shard: Shard, member: Member, why: str) -> ShardReadError:
    return ShardReadError("unreadable", shard.id, member.name, member.offset, why)


def _images(headers: Iterable[_Header], limit: int) -> Iterator[Member]:
    """Members that are images, hard links resolved to what they link to."""
    contents: dict[str, _Header] = {}
    for header in headers:
        if header.kind in _REGULAR or header.sparse:
            contents[header.name] = header
        elif header.kind == tarfile.LNKTYPE:
            target = contents.get(header.link)
            if target is None:
                if is_image_name(header.name):
                    error = f"hard link to {printable(header.link)}, which is not in the archive"
                    yield _member(header, 0, header.offset, error)
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
            yield _member(header, header.size, header.offset, error)


def _member(header: _Header, size: int, offset: int, error: str) -> Member:
    return Member(printable(header.name), header.name, offset, size, size, error=error)


def _with_sample_keys(members: list[Member]) -> Iterator[Member]:
    """WebDataset's rule: a sample's key is its path up to the first dot of the base name.

    A sample with several images gives each its whole name instead.
    """
    samples = Counter(_sample_key(member.name) for member in members)
    for member in members:
        sample = _sample_key(member.name)
        yield replace(member, key=printable(sample if samples[sample] == 1 else member.name))


def _sample_key(name: str) -> str:
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _headers(source: ByteSource) -> Iterator[_Header]:
    """All members of the archive, extension headers (pax, GNU) applied.

    Raises:
        DamagedTar: the archive is cut or damaged; members before that were yielded.
    """
    offset = 0
    common: dict[str, str] = {}
    own: dict[str, str] = {}
    while True:
        block = source.pread(offset, BLOCK)
        if len(block) < BLOCK:
            # A writer that was killed between two members leaves a whole, unmarked tail.
            raise DamagedTar(offset, "the archive ends without an end-of-archive marker")
        if not any(block):
            following = _next_archive(source, offset)
            if following is None:
                return
            offset = following
            continue
        info = _parse(block, offset)
        data = offset + BLOCK
        if info.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE):
            records = _pax(_extension(source, info, data), data)
            (common if info.type == tarfile.XGLTYPE else own).update(records)
        elif info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
            key = "path" if info.type == tarfile.GNUTYPE_LONGNAME else "linkpath"
            text = _extension(source, info, data).rstrip(b"\0")
            own[key] = text.decode("utf-8", "surrogateescape")
        else:
            header = _header(info, {**common, **own}, data)
            own = {}
            yield _whole(source, header, info.type)
            offset = data + _padded(header.size)
            if info.type == tarfile.GNUTYPE_SPARSE and block[482]:
                offset += _sparse_blocks(source, data) * BLOCK
            continue
        offset = data + _padded(info.size)


def _parse(block: bytes, offset: int) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise DamagedTar(offset, f"damaged tar header ({error})") from error
    if info.size < 0:
        raise DamagedTar(offset, "damaged tar header (negative size)")
    return info


def _header(info: tarfile.TarInfo, records: dict[str, str], data: int) -> _Header:
    sparse = info.type == tarfile.GNUTYPE_SPARSE or any(
        k.startswith("GNU.sparse.") for k in records
    )
    name = records.get("GNU.sparse.name", records.get("path", info.name))
    size = info.size if info.type not in (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE) else 0
    if "size" in records and size:
        size = _number(records["size"], data)
    link = records.get("linkpath", info.linkname)
    return _Header(_clean(name), info.type, _clean(link), data, size, sparse)


def _whole(source: ByteSource, header: _Header, kind: bytes) -> _Header:
    """The header, once the last byte of its content is known to be there."""
    if header.size and not source.pread(header.offset + header.size - 1, 1):
        raise DamagedTar(header.offset, f"the archive ends inside {printable(header.name)}")
    return header


def _clean(name: str) -> str:
    """``./a.jpg`` is ``a.jpg``: ``tar -c .`` writes all names so."""
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name


def _extension(source: ByteSource, info: tarfile.TarInfo, data: int) -> bytes:
    content = source.pread(data, info.size) if info.size <= _MAX_EXTENSION else b""
    if len(content) < info.size:
        raise DamagedTar(data, "damaged or cut extension header")
    return content


def _pax(content: bytes, offset: int) -> dict[str, str]:
    """Records of a pax header: ``length key=value newline``, the length counting itself."""
    records = {}
    position = 0
    while position < len(content) and content[position]:
        digits, space, _ = content[position : position + 20].partition(b" ")
        length = int(digits) if digits.isdigit() and space else 0
        record = content[position : position + length]
        key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if not equals or len(record) < length or record[-1:] != b"\n":
            raise DamagedTar(offset + position, "damaged pax header")
        records[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        position += length
    return records


def _number(text: str, offset: int) -> int:
    if not text.isdigit():
        raise DamagedTar(offset, f"damaged pax header (size {text!r})")
    return int(text)


def _sparse_blocks(source: ByteSource, data: int) -> int:
    """How many blocks of GNU's old sparse map follow a header; the data come after them."""
    count = 0
    while True:
        block = source.pread(data + count * BLOCK, BLOCK)
        count += 1
        if len(block) < BLOCK or not block[504]:
            return count


def _next_archive(source: ByteSource, offset: int) -> int | None:
    """Where another archive begins after an end-of-archive marker (``cat a.tar b.tar``), if one
    does within the customary padding."""
    for position in range(offset + BLOCK, offset + _MAX_PADDING, BLOCK):
        block = source.pread(position, BLOCK)
        if len(block) < BLOCK:
            return None
        if any(block):
            try:
                _parse(block, position)
            except DamagedTar:
                return None
            return position
    return None


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
