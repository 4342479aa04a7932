"""Bytes of an archive by offset, with as few requests as its layout allows."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from jobs.pipeline.shards.model import MIB, Member
from jobs.pipeline.storage.store import Store

REMOTE_BLOCK = 8 * MIB
"""Bytes of one read-ahead: a request to S3 takes about as long as a few MiB take to arrive."""
REMOTE_SIP = MIB // 16
"""Bytes read after a jump over more than a block: only headers are wanted there."""
LOCAL_SIP = MIB // 32
"""Bytes read at once from a local file."""

SPAN_GAP = MIB // 2
"""Members with fewer bytes than this between them are fetched in one request."""
SPAN_BYTES = 32 * MIB
"""Most bytes of one such request."""


# Threads that read ahead; idle ones cost nothing.
_AHEAD = ThreadPoolExecutor(8, thread_name_prefix="read-ahead")


class ByteSource(Protocol):
    """Something that can be read by offset; a compressed stream only forwards."""

    def pread(self, offset: int, count: int) -> bytes:
        """``count`` bytes from ``offset``, fewer only where the source ends."""
        ...


class RangeReader:
    """Reads one file of a store by offset, through one buffer.

    Forward reads from S3 fetch whole blocks, the next one while this one is used; a jump over more
    than a block fetches a small piece. Local reads are always small: nothing is gained by reading
    what will be skipped.
    """

    def __init__(self, store: Store, rel: str, size: int) -> None:
        self._store = store
        self._rel = rel
        self.size = size
        remote = store.kind != "local"
        self._block = REMOTE_BLOCK if remote else LOCAL_SIP
        self._sip = REMOTE_SIP if remote else LOCAL_SIP
        self._read_ahead = remote
        self._start = 0
        self._buffer = b""
        self._next: Future[bytes] | None = None

    def pread(self, offset: int, count: int) -> bytes:
        """``count`` bytes from ``offset``, fewer only where the file ends."""
        count = max(0, min(count, self.size - offset))
        begin = offset - self._start
        if begin < 0 or begin + count > len(self._buffer):
            self._fill(offset, count)
            begin = offset - self._start
        return self._buffer[begin : begin + count]

    def _fill(self, offset: int, count: int) -> None:
        """Make the buffer hold at least ``count`` bytes from ``offset``."""
        end = self._start + len(self._buffer)
        if self._start <= offset < end + self._block and self._read_ahead:
            self._continue(offset, count)
            return
        self._next = None
        near = 0 <= offset - end < self._block
        wanted = max(count, self._block if near else self._sip)
        self._buffer = self._fetch(offset, wanted)
        self._start = offset

    def _continue(self, offset: int, count: int) -> None:
        """Drop what lies before ``offset`` from the buffer and append the next block."""
        end = self._start + len(self._buffer)
        kept = self._buffer[offset - self._start :]
        block = self._next.result() if self._next else self._fetch(end, self._block)
        missing = offset + count - end - len(block)
        if missing > 0:
            block += self._fetch(end + len(block), missing)
        first = self._start == end  # a first read may be the only one
        self._start = min(offset, end)
        self._buffer = kept + block
        end += len(block)
        self._next = (
            None if first or end >= self.size else _AHEAD.submit(self._fetch, end, self._block)
        )

    def _fetch(self, start: int, count: int) -> bytes:
        end = min(start + count, self.size)
        return self._store.read(self._rel, start, end) if end > start else b""


class RangeFile(io.RawIOBase):
    """A :class:`RangeReader` as a seekable binary file, for zipfile and pyarrow."""

    def __init__(self, reader: RangeReader) -> None:
        super().__init__()
        self._reader = reader
        self._position = 0

    def readable(self) -> bool:
        """Always true."""
        return True

    def seekable(self) -> bool:
        """Always true."""
        return True

    def tell(self) -> int:
        """The current position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to ``offset`` from start, position or end; returns the new position in bytes."""
        base = (0, self._position, self._reader.size)[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, count: int | None = -1, /) -> bytes:
        """Up to ``count`` bytes, all that are left if it is negative; b"" at the end."""
        if count is None or count < 0:
            count = self._reader.size
        data = self._reader.pread(self._position, count)
        self._position += len(data)
        return data

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Fill ``buffer``; returns how many bytes there were, 0 at the end."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def spans(members: Iterable[Member]) -> Iterator[list[Member]]:
    """Group neighbouring members in the order of their offsets: each group is one request."""
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
