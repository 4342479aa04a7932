"""Bytes of an archive by offset, with as few requests as its layout allows."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Protocol

from jobs.pipeline.shards.model import MIB, Member
from jobs.pipeline.store import Store

#: One read-ahead: from S3 a request costs about as long as a few MiB take to arrive.
REMOTE_BLOCK = 8 * MIB
LOCAL_BLOCK = MIB // 4
#: What is read after a jump over more than a block: members are large, only headers are wanted.
REMOTE_SIP = MIB // 16
LOCAL_SIP = MIB // 256

#: Members closer together than this are fetched in one request, up to SPAN_BYTES at a time.
SPAN_GAP = MIB // 2
SPAN_BYTES = 32 * MIB


class ByteSource(Protocol):
    """Something that can be read by offset; a compressed stream only forwards."""

    def pread(self, offset: int, count: int) -> bytes:
        """``count`` bytes from ``offset``, fewer only where the source ends."""
        ...


class RangeReader:
    """Reads one file of a store by offset through one read-ahead buffer."""

    def __init__(self, store: Store, rel: str, size: int) -> None:
        self._store = store
        self._rel = rel
        self.size = size
        remote = store.kind != "local"
        self._block = REMOTE_BLOCK if remote else LOCAL_BLOCK
        self._sip = REMOTE_SIP if remote else LOCAL_SIP
        self._start = 0
        self._buffer = b""

    def pread(self, offset: int, count: int) -> bytes:
        count = max(0, min(count, self.size - offset))
        begin = offset - self._start
        if begin < 0 or begin + count > len(self._buffer):
            self._fill(offset, count)
            begin = 0
        return self._buffer[begin : begin + count]

    def _fill(self, offset: int, count: int) -> None:
        jump = offset - (self._start + len(self._buffer))
        ahead = self._block if 0 <= jump < self._block or self._overlaps(offset) else self._sip
        end = min(offset + max(count, ahead), self.size)
        self._buffer = self._store.read(self._rel, offset, end)
        self._start = offset

    def _overlaps(self, offset: int) -> bool:
        return 0 <= offset - self._start < len(self._buffer)


class RangeFile(io.RawIOBase):
    """A :class:`RangeReader` as a seekable binary file, for zipfile and pyarrow."""

    def __init__(self, reader: RangeReader) -> None:
        super().__init__()
        self._reader = reader
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = (0, self._position, self._reader.size)[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, count: int | None = -1, /) -> bytes:
        if count is None or count < 0:
            count = self._reader.size
        data = self._reader.pread(self._position, count)
        self._position += len(data)
        return data

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def spans(members: Iterable[Member]) -> Iterator[list[Member]]:
    """Group members by neighbourhood, in the order of their offsets: each group is one request."""
    group: list[Member] = []
    low = high = 0
    for member in sorted(members, key=lambda member: member.offset):
        end = member.offset + member.span
        near = member.offset <= high + SPAN_GAP and max(high, end) - low <= SPAN_BYTES
        if group and not near:
            yield group
            group = []
        if not group:
            low = high = member.offset
        group.append(member)
        high = max(high, end)
    if group:
        yield group
