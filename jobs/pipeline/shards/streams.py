"""Archives compressed as a whole: read forwards only, a block at a time, never held in full.

Reading a chunk from the middle means decompressing all that comes before it. A process therefore
parks the stream after a chunk, and the next chunk of the same shard continues from there. An actor
that is given a shard's chunks in rising order reads it once; several actors on it read it once
each.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterator
from typing import Literal

import zstandard

from jobs.pipeline.shards.model import MIB, ReadOptions, Shard
from jobs.pipeline.shards.parking import Parking
from jobs.pipeline.shards.reader import RangeReader
from jobs.pipeline.storage.store import locate

Compression = Literal["gzip", "zstd"]

_MAGIC: dict[bytes, Compression] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
# At most this much is decompressed at once, whatever the ratio.
_STEP = MIB
_GZIP_PIECE = MIB // 4
# zstd's decompressor has no limit on its output; a piece this small cannot grow beyond 256 MiB.
_ZSTD_PIECE = MIB // 128


class CorruptStream(Exception):
    """Decompression failed.

    Attributes:
        offset: decompressed bytes before the damage.
        why: the reason, for a person.
    """

    def __init__(self, offset: int, why: str) -> None:
        super().__init__(offset, why)
        self.offset = offset
        self.why = why


def compression_of(head: bytes) -> Compression | None:
    """How a file is compressed, by its first bytes; None if it is not. Its name is ignored."""
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


class ForwardReader:
    """A decompressed stream that is read by rising offsets."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._incoming = blocks
        self._blocks: deque[bytes] = deque()
        self._start = 0
        self._end = 0

    @property
    def position(self) -> int:
        """The lowest offset that can still be read, a little before the last one asked for."""
        return self._start

    def pread(self, offset: int, count: int) -> bytes:
        """``count`` bytes from ``offset``, fewer only where the stream ends.

        Raises:
            ValueError: ``offset`` is before :attr:`position`.
            CorruptStream: the data are damaged or end early.
        """
        if offset < self._start:
            raise ValueError(f"cannot go back from {self._start} to {offset}")
        while self._end < offset + count and self._receive():
            self._forget(offset)
        self._forget(offset)
        return self._slice(offset - self._start, count)

    def drain(self) -> None:
        """Read to the end: only there does a gzip member or zstd frame prove to be whole.

        Raises:
            CorruptStream: it is not.
        """
        while self._receive():
            self._forget(self._end)

    def _receive(self) -> bool:
        block = next(self._incoming, b"")
        self._blocks.append(block)
        self._end += len(block)
        return bool(block)

    def _forget(self, offset: int) -> None:
        while self._blocks and self._start + len(self._blocks[0]) <= offset:
            self._start += len(self._blocks.popleft())

    def _slice(self, begin: int, count: int) -> bytes:
        parts = []
        for block in self._blocks:
            if count <= 0:
                break
            part = block[begin : begin + count]
            parts.append(part)
            count -= len(part)
            begin = max(0, begin - len(block))
        return parts[0] if len(parts) == 1 else b"".join(parts)


def forward_reader(reader: RangeReader, compression: Compression) -> ForwardReader:
    """The decompressed bytes of a file, concatenated gzip members or zstd frames included."""
    return ForwardReader(_gunzip(reader) if compression == "gzip" else _unzstd(reader))


def _gunzip(reader: RangeReader) -> Iterator[bytes]:
    member = None
    done = 0
    for data in _pieces(reader, _GZIP_PIECE):
        while True:
            if member is None:
                data = data.lstrip(b"\0")  # tapes and some servers pad with zeros
                if not data:
                    break
                member = zlib.decompressobj(wbits=31)
            try:
                block = member.decompress(data, _STEP)
            except zlib.error as error:
                raise CorruptStream(done, "corrupt gzip data") from error
            data = member.unconsumed_tail
            done += len(block)
            if block:
                yield block
            if member.eof:
                data, member = member.unused_data, None
            elif not data and len(block) < _STEP:
                break
    if member is not None:
        raise CorruptStream(done, "the gzip data end early")


def _unzstd(reader: RangeReader) -> Iterator[bytes]:
    frame = None
    done = 0
    for data in _pieces(reader, _ZSTD_PIECE):
        while data:
            if frame is None:
                frame = zstandard.ZstdDecompressor().decompressobj()
            try:
                block = frame.decompress(data)
            except zstandard.ZstdError as error:
                raise CorruptStream(done, "corrupt zstd data") from error
            data = b""
            done += len(block)
            if block:
                yield block
            if frame.eof:
                data, frame = frame.unused_data, None
    if frame is not None:
        raise CorruptStream(done, "the zstd data end early")


def _pieces(reader: RangeReader, size: int) -> Iterator[bytes]:
    for offset in range(0, reader.size, size):
        yield reader.pread(offset, size)


def resume(shard: Shard, offset: int, options: ReadOptions) -> ForwardReader:
    """A shard's decompressed stream, positioned at or before ``offset``.

    It is the stream that an earlier chunk of this process parked, unless that has passed
    ``offset``.
    """
    stream = _PARKING.take((shard.uri, shard.etag))
    if stream is not None and stream.position <= offset:
        return stream
    store, rel = locate(shard.uri, s3_endpoint=options.s3_endpoint)
    reader = RangeReader(store, rel, shard.size)
    return forward_reader(reader, compression_of(reader.pread(0, 8)) or "gzip")


def park(shard: Shard, stream: ForwardReader) -> None:
    """Keep a stream for the next chunk. Do not park one that failed or was left in the middle."""
    _PARKING.put((shard.uri, shard.etag), stream)


_PARKING: Parking[tuple[str, str], ForwardReader] = Parking()
