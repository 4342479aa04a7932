"""Tar headers: old, POSIX (ustar, pax) and GNU, from any source that can be read forwards.

Parsed here rather than by :mod:`tarfile`, which takes a damaged or cut header for the end of the
archive and says nothing: images would be lost without a trace. It also takes half as long again.
Layout: POSIX.1-2001, "pax Interchange Format"; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jobs.pipeline.shards.model import printable
from jobs.pipeline.shards.reader import ByteSource

BLOCK = 512
"""Bytes of a header; content is padded to a multiple of it."""
REGULAR = frozenset({b"0", b"\0", b"7"})
"""Types of members with content; every reader treats contiguous files (7) as regular ones."""
HARD_LINK = b"1"
"""Type of a hard link."""
_DIRECTORY = b"5"
_NO_CONTENT = frozenset({HARD_LINK, b"2", b"3", b"4", _DIRECTORY, b"6"})
_PAX = frozenset({b"x", b"X"})
_PAX_GLOBAL = b"g"
_GNU_LONG = {b"L": "path", b"K": "linkpath"}
_GNU_SPARSE = b"S"
# A long name, or a set of pax records, that is larger than this is damage.
_MAX_EXTENSION = 1 << 20
# How far past an end-of-archive marker to look for an appended archive.
_MAX_PADDING = 1 << 20


class DamagedTar(Exception):
    """The archive is damaged or cut.

    Attributes:
        offset: the byte of the archive where that shows.
        why: the reason, for a person.
    """

    def __init__(self, offset: int, why: str) -> None:
        super().__init__(offset, why)
        self.offset = offset
        self.why = why


@dataclass(slots=True)
class Header:
    """One member.

    Attributes:
        name: path in the archive, without ``./``.
        kind: the type flag, one byte.
        link: what a link points to, or "".
        offset: first byte of the content.
        size: bytes of the content.
        sparse: whether it is a GNU sparse file, whose content is not stored as it is.
    """

    name: str
    kind: bytes
    link: str
    offset: int
    size: int
    sparse: bool


def read_headers(source: ByteSource) -> Iterator[Header]:
    """All members, with extension headers (pax, GNU) applied and appended archives included.

    Raises:
        DamagedTar: the archive is cut or damaged; the members before that were yielded.
    """
    offset = 0
    common: dict[str, str] = {}
    own: dict[str, str] = {}
    while True:
        block = source.pread(offset, BLOCK)
        if len(block) < BLOCK:
            # If a writer was killed, or a copy cut, between two members, none of them is damaged.
            raise DamagedTar(offset, "the archive ends without an end-of-archive marker")
        if not any(block):
            following = _next_archive(source, offset)
            if following is None:
                return
            offset, common = following, {}
            continue
        header = _parse(block, offset)
        if header.kind in _PAX:
            own.update(_pax(_extension(source, header), header.offset))
        elif header.kind == _PAX_GLOBAL:
            common.update(_pax(_extension(source, header), header.offset))
        elif header.kind in _GNU_LONG:
            own[_GNU_LONG[header.kind]] = _text(_extension(source, header).rstrip(b"\0"))
        else:
            _apply(header, {**common, **own} if common else own)
            own = {}
            maps = _sparse_maps(source, header, block)
            if header.size and not source.pread(header.offset + header.size - 1, 1):
                why = f"the archive ends inside {printable(header.name)}"
                raise DamagedTar(header.offset, why)
            yield header
            offset = header.offset + maps + _padded(header.size)
            continue
        offset = header.offset + _padded(header.size)


def _parse(block: bytes, offset: int) -> Header:
    if not _checksum_holds(block):
        raise DamagedTar(offset, "damaged tar header (checksum)")
    size = _number(block[124:136])
    if size is None or size < 0:
        raise DamagedTar(offset, "damaged tar header (size)")
    name = _field(block, 0, 100)
    kind = block[156:157]
    # GNU tar keeps times where POSIX keeps the first part of a long name.
    if block[257:263] == b"ustar\0" and block[345]:
        name = _field(block, 345, 500) + b"/" + name
    if kind == b"\0" and name.endswith(b"/"):
        kind = _DIRECTORY
    if kind in _NO_CONTENT:
        size = 0
    link = _text(_field(block, 157, 257))
    return Header(_text(name), kind, link, offset + BLOCK, size, kind == _GNU_SPARSE)


def _checksum_holds(block: bytes) -> bool:
    stated = _number(block[148:156])
    field = block[148:156]
    # A header is mostly zeros, and leaving them out of the sum is three times as fast.
    unsigned = sum(block.translate(None, b"\0")) - sum(field) + 8 * ord(" ")
    if stated == unsigned:
        return True
    # Some old writers added up signed characters.
    negative = sum(byte > 127 for byte in block) - sum(byte > 127 for byte in field)
    return stated == unsigned - 256 * negative


def _number(field: bytes) -> int | None:
    """An octal number, or GNU's big-endian binary one marked by the first bit."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=False) & ((1 << (8 * len(field) - 1)) - 1)
        return None if field[0] == 0xFF else value
    digits = field.partition(b"\0")[0].strip()
    try:
        return int(digits or b"0", 8)
    except ValueError:
        return None


def _field(block: bytes, start: int, end: int) -> bytes:
    return block[start:end].partition(b"\0")[0]


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _apply(header: Header, records: dict[str, str]) -> None:
    """Override the header's own fields with those of its extension headers."""
    if records:
        header.sparse |= any(key.startswith("GNU.sparse.") for key in records)
        header.name = records.get("GNU.sparse.name", records.get("path", header.name))
        header.link = records.get("linkpath", header.link)
        if "size" in records and header.kind not in _NO_CONTENT:
            if not records["size"].isdigit():
                raise DamagedTar(header.offset, "damaged pax header (size)")
            header.size = int(records["size"])
    header.name = _clean(header.name)
    header.link = _clean(header.link)


def _clean(name: str) -> str:
    """``./a.jpg`` as ``a.jpg``: ``tar -c .`` writes all names the first way."""
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name


def _extension(source: ByteSource, header: Header) -> bytes:
    content = source.pread(header.offset, header.size) if header.size <= _MAX_EXTENSION else b""
    if len(content) < header.size:
        raise DamagedTar(header.offset, "damaged or cut extension header")
    return content


def _pax(content: bytes, offset: int) -> dict[str, str]:
    """Records of a pax header: ``length key=value newline``, the length counting all of it."""
    records = {}
    position = 0
    while position < len(content) and content[position]:
        digits = content[position : position + 20].partition(b" ")[0]
        length = int(digits) if digits.isdigit() else 0
        record = content[position : position + length]
        key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if not equals or len(record) < length or not record.endswith(b"\n"):
            raise DamagedTar(offset + position, "damaged pax header")
        records[_text(key)] = _text(value)
        position += length
    return records


def _sparse_maps(source: ByteSource, header: Header, block: bytes) -> int:
    """Bytes that GNU's old sparse maps take between a header and its content."""
    if header.kind != _GNU_SPARSE or not block[482]:
        return 0
    count = 0
    more = True
    while more:
        extra = source.pread(header.offset + count * BLOCK, BLOCK)
        count += 1
        more = len(extra) == BLOCK and extra[504] != 0
    return count * BLOCK


def _next_archive(source: ByteSource, marker: int) -> int | None:
    """Where another archive begins after an end-of-archive marker and the usual padding."""
    for offset in range(marker + BLOCK, marker + _MAX_PADDING, BLOCK):
        block = source.pread(offset, BLOCK)
        if len(block) < BLOCK:
            return None
        if any(block):
            # Anything but a header is somebody's trailing garbage, which every reader ignores.
            return offset if _checksum_holds(block) else None
    return None


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
