"""Archives compressed as a whole: read forwards only, a block at a time, never held in full.

Reading a chunk from the middle means decompressing all that comes before it. A process therefore
parks the stream after a chunk: the next chunk of the same shard goes on from there. An actor that
is given a shard's chunks in rising order reads it once; several actors on it read it once each.
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
    """Decompression failed; ``offset`` counts decompressed bytes."""

    def __init__(self, offset: int, why: str) -> None:
        super().__init__(offset, why)
        self.offset = offset
        self.why = why


def compression_of(head: bytes) -> Compression | None:
    """What the first bytes of a file say it is compressed with; its name does not matter."""
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
        """The lowest offset that can still be read: a little before the last one asked for."""
        return self._start

    def pread(self, offset: int, count: int) -> bytes:
        if offset < self._start:
            raise ValueError(f"cannot go back from {self._start} to {offset}")
        while self._end < offset + count and self._receive():
            self._forget(offset)
        self._forget(offset)
        return self._slice(offset - self._start, count)

    def drain(self) -> None:
        """Read to the end: only there does a gzip member or zstd frame show that it is whole."""
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
    """The shard's decompressed stream at or before ``offset``: where an earlier chunk of this
    process left it, unless that was further on."""
    stream = _PARKING.take((shard.uri, shard.etag))
    if stream is not None and stream.position <= offset:
        return stream
    store, rel = locate(shard.uri, s3_endpoint=options.s3_endpoint)
    reader = RangeReader(store, rel, shard.size)
    return forward_reader(reader, compression_of(reader.pread(0, 8)) or "gzip")


def park(shard: Shard, stream: ForwardReader) -> None:
    """Keep a stream for the next chunk; one that failed or was left in the middle is dropped."""
    _PARKING.put((shard.uri, shard.etag), stream)


_PARKING: Parking[tuple[str, str], ForwardReader] = Parking()
